-- Opens a granted attempt, for one caller only. ARGV: attempt, now
-- Gives {account, parameters, failures so far}, or nothing where the attempt is not (any more) to be submitted.
local attempt, now = ARGV[1], tonumber(ARGV[2])
local held = redis.call('HMGET', attempt_key(attempt), 'state', 'job', 'provider', 'account', 'failures')
if held[1] ~= 'granted' then return false end
local id, provider, account = held[2], held[3], held[4]
if not redis.call('ZSCORE', slots_key(provider, account), attempt) then
  -- Its lease expired unopened, and the slot may be another's by now: back to its lane, at its old place.
  close(attempt, 'expired', now)
  join_lane(id)
  redis.call('ZADD', DUE, now, 'account:' .. provider .. '/' .. account)
  return false
end
local limits = redis.call('HMGET', account_key(provider, account), 'deadline_seconds', 'timeout_seconds')
local deadline = now + tonumber(limits[1])
redis.call('HSET', attempt_key(attempt), 'state', 'open', 'opened', now, 'deadline', deadline)
redis.call('ZADD', slots_key(provider, account), deadline + LEASE_GRACE, attempt)
redis.call('ZADD', DUE, now + tonumber(limits[2]) + REPLY_GRACE, 'job:' .. id)
set_state(id, 'submitted')
count(provider, 'submits')
local batch = job_field(id, 'batch')
if batch ~= '' then redis.call('HSETNX', batch_key(batch), 'started', now) end
return {account, job_field(id, 'parameters'), tonumber(held[5])}
