-- Says who is told of a batch. ARGV: batch, then names and values
local key = batch_key(ARGV[1])
redis.call('HSET', key, unpack(ARGV, 2))
if not redis.call('HGET', key, 'total') then redis.call('EXPIRE', key, KEEP) end
