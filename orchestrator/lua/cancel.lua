-- Cancels a job that is not over. ARGV: job, now, keep_seconds,
-- attempt (only where this one is the last and still granted; '' for always)
-- Gives {1, message, account, upstream id, grants}, or {0} where it is too late or there is no such job.
local id, now = ARGV[1], tonumber(ARGV[2])
local state = job_field(id, 'state')
if state ~= 'queued' and state ~= 'submitted' then return {0} end
local attempt = last_attempt(id)
local held = redis.call('HMGET', attempt_key(attempt), 'state', 'account', 'upstream_id')
if ARGV[4] ~= '' and (ARGV[4] ~= attempt or held[1] ~= 'granted') then return {0} end
leave_lane(id)
if held[1] and held[1] ~= 'closed' then close(attempt, 'cancelled', now) end
set_state(id, 'cancelled')
announce_end(id, now, ARGV[3])
local grants = {}
fill(job_field(id, 'provider'), now, grants)
return {1, finish_due(id, now), held[2] or '', held[3] or '', grants}
