-- Says who is told of a batch. ARGV: batch, seconds it is kept until it has jobs, then names and values
local key = batch_key(ARGV[1])
redis.call('HSET', key, unpack(ARGV, 3))
if not redis.call('HGET', key, 'total') then redis.call('EXPIRE', key, ARGV[2]) end
