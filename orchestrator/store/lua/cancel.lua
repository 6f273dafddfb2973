-- Cancels a job that is not over. ARGV: job, now
-- Gives {1, message, account, upstream id, grants}, or {0} where it is too late or there is no such job.
local id, now = ARGV[1], tonumber(ARGV[2])
local state = job_field(id, 'state')
if state ~= 'queued' and state ~= 'submitted' then return {0} end
local held = redis.call('HMGET', attempt_key(last_attempt(id)), 'account', 'upstream_id')
local finish = cancel_job(id, now)
local grants = {}
fill_for(id, now, grants)
return {1, finish, held[1] or '', held[2] or '', grants}
