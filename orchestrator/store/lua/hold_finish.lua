-- Keeps hold of a finish that takes long. ARGV: job, now
local id, now = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'state', 'finishing')
if job[1] ~= 'collecting' or not job[2] then return 0 end
redis.call('HSET', job_key(id), 'finishing', now + FINISH_PATIENCE)
redis.call('ZADD', DUE, now + FINISH_PATIENCE, 'job:' .. id)
return 1
