-- A picture could not be kept: the finishing is let go until later. ARGV: job, due_at, reason
local id = ARGV[1]
if job_field(id, 'state') ~= 'collecting' then return 0 end
redis.call('HDEL', job_key(id), 'finishing')
redis.call('HSET', job_key(id), 'collect_error', ARGV[3])
redis.call('ZADD', DUE, ARGV[2], 'job:' .. id)
return redis.call('HINCRBY', job_key(id), 'collect_failures', 1)
