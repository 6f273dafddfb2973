-- Opens a granted attempt, for one caller only. ARGV: attempt, now, content (hash of what moderation judges)
-- Gives {account, parameters, failures so far, how many there may be ('' as the account says), slots of the
-- account, 1 where the content was refused before, when its job came, when it was granted}, or nothing where the
-- attempt is not (any more) to be submitted.
local attempt, now = ARGV[1], tonumber(ARGV[2])
local held = redis.call('HMGET', attempt_key(attempt), 'state', 'job', 'provider', 'account', 'failures', 'max_attempts',
  'granted')
if held[1] ~= 'granted' then return false end
local id, provider, account = held[2], held[3], held[4]

local function take_back(due_of)
  close(attempt, 'expired', now)
  redis.call('ZADD', DUE, now, due_of)
  return false
end

if has_expired(id, now) then return take_back('job:' .. id) end
if not redis.call('ZSCORE', slots_key(provider, account), attempt) then
  -- Its lease expired unopened, and the slot may be another's by now: back to its lane, at its old place.
  join_lane(id)
  return take_back('account:' .. provider .. '/' .. account)
end

local job = redis.call('HMGET', job_key(id), 'parameters', 'even_if_moderated', 'batch', 'created')
local limits = limits_of(provider, account, 'deadline_seconds', 'timeout_seconds', 'max_jobs')
local function opened(refused)
  return {account, job[1], held[5] or '', held[6] or '', tonumber(limits[3]), refused, job[4], held[7]}
end

if not job[2] and redis.call('EXISTS', refused_key(provider, ARGV[3])) == 1 then return opened(1) end
local price = price_of(provider, account)
local batch = job[3] ~= '' and redis.call('HMGET', batch_key(job[3]), 'max_spend', 'paused') or {}
if is_spent(provider, account) or batch[2] == 'failures' or batch[2] == 'cancel' then
  join_lane(id)
  return take_back('account:' .. provider .. '/' .. account)
elseif is_batch_spent(batch[1], job[3], price) then
  pause_batch(job[3], 'spend')
  join_lane(id)
  return take_back('account:' .. provider .. '/' .. account)
end
local deadline = now + tonumber(limits[1])
redis.call('HSET', attempt_key(attempt), 'state', 'open', 'opened', now, 'deadline', deadline, 'content', ARGV[3],
  'price', price)
spend(attempt, 'committed')
redis.call('ZADD', slots_key(provider, account), deadline + LEASE_GRACE, attempt)
redis.call('ZADD', DUE, now + tonumber(limits[2]) + REPLY_GRACE, 'job:' .. id)
set_state(id, 'submitted')
count(provider, 'submits')
if job[3] ~= '' then redis.call('HSETNX', batch_key(job[3]), 'started', now) end
return opened(0)
