-- Takes the finishing of a job, for one caller at a time. ARGV: job, now
-- Gives {1 where it was begun before, the job's record, those of its attempts}, or nothing where there is nothing to
-- finish or somebody else is at it. The job's `finishing` is the lease, which is the token as well: whoever has another
-- one has lost the job.
local id, now = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'state', 'finishing', 'finished', 'begun', 'sent')
if job[1] ~= 'collecting' and job[1] ~= 'cancelled' then return {} end
if job[3] or tonumber(job[2] or '0') > now then return {} end
if job[5] then reach('finish', job[5], now) end
lease_finish(id, now)
local attempts = {}
for number = 1, tonumber(job_field(id, 'attempts') or '0') do
  attempts[number] = redis.call('HGETALL', attempt_key(id .. '.' .. number))
end
return {(job[2] or job[4]) and 1 or 0, redis.call('HGETALL', job_key(id)), attempts}
