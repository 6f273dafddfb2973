-- Takes the finishing of a job, for one caller at a time. ARGV: job, now
-- Gives the job's record, or nothing where there is nothing to finish or somebody else is at it.
local id, now = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'state', 'finishing', 'finished')
if job[1] ~= 'collecting' and job[1] ~= 'cancelled' then return {} end
if job[3] or tonumber(job[2] or '0') > now then return {} end
redis.call('HSET', job_key(id), 'finishing', now + FINISH_PATIENCE)
redis.call('ZADD', DUE, now + FINISH_PATIENCE, 'job:' .. id)
return redis.call('HGETALL', job_key(id))
