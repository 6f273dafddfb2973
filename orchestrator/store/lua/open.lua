-- Opens a granted attempt, for one caller only, who may ask once more where the answer was lost. ARGV: attempt, now,
-- content (hash of what moderation judges), opener (random, the caller's for this call), the worker on whose behalf the
-- job may be ended by whoever settles it ('' for none), and where Celery is to say something of the task from now on:
-- the key, the text, for how many seconds. An end is left as it is.
-- Gives {account, parameters, failures so far, how many there may be ('' as the account says), slots of the
-- account, 1 where the content was refused before, when its job came, when it was granted}, or nothing where the
-- attempt is not (any more) to be submitted.
local attempt, now = ARGV[1], tonumber(ARGV[2])
local was, id, provider, account, failures, max_attempts, granted, resent, opener = unpack(redis.call('HMGET',
  attempt_key(attempt), 'state', 'job', 'provider', 'account', 'failures', 'max_attempts', 'granted', 'resent', 'opener'))
local was_opened = was == 'open' and opener == ARGV[4]
if was ~= 'granted' and not was_opened then return false end
if not resent then reach('submit', granted, now) end

local function expire()  -- seldom
  close(attempt, 'expired', now)
  redis.call('ZADD', DUE, now, 'job:' .. id)
  return false
end

-- Back to its lane, at its old place.
local function take_back()  -- seldom
  join_lane(id)
  close(attempt, 'expired', now)
  redis.call('ZADD', DUE, now, 'account:' .. provider .. '/' .. account)
  return false
end

local state, expires, parameters, even_if_moderated, batch, created = unpack(redis.call('HMGET', job_key(id), 'state',
  'expires', 'parameters', 'even_if_moderated', 'batch', 'created'))
local deadline_seconds, timeout_seconds, max_jobs, max_spend, max_per_day, price = unpack(limits_of(provider, account,
  'deadline_seconds', 'timeout_seconds', 'max_jobs', 'max_spend', 'max_per_day', 'price'))
local function opened(refused)
  return {account, parameters, failures or '', max_attempts or '', tonumber(max_jobs), refused, created, granted}
end

if was_opened then return opened(0) end
if is_past(expires, now) then return expire() end
-- Where its lease expired unopened, the slot, and its place in the day, may be another's by now.
local lease = redis.call('ZSCORE', slots_key(provider, account), attempt)
if not lease or is_past(lease, now) then return take_back() end
if not even_if_moderated and redis.call('EXISTS', refused_key(provider, ARGV[3])) == 1 then return opened(1) end
price = tonumber(price or '0')
local most, paused, started
if batch ~= '' then
  most, paused, started = unpack(redis.call('HMGET', batch_key(batch), 'max_spend', 'paused', 'started'))
end
if is_spent(provider, account, max_spend) or paused == 'failures' or paused == 'cancel' then
  return take_back()
elseif is_batch_spent(most, batch, price) then
  pause_batch(batch, 'spend')
  return take_back()
end
local deadline = now + tonumber(deadline_seconds)
redis.call('HSET', attempt_key(attempt), 'state', 'open', 'opened', now, 'deadline', deadline, 'content', ARGV[3],
  'opener', ARGV[4], 'price', price, 'fate', 'committed')
if ARGV[5] ~= '' then redis.call('HSET', attempt_key(attempt), 'on_behalf', ARGV[5], 'keep', KEEP) end
book(provider, account, batch, false, 'committed', now, price)
redis.call('ZADD', slots_key(provider, account), deadline + LEASE_GRACE, attempt)
if tonumber(max_per_day or '0') > 0 then redis.call('ZADD', day_key(provider, account), now, attempt) end
redis.call('ZADD', DUE, now + tonumber(timeout_seconds) + REPLY_GRACE, 'job:' .. id)
change_state(id, provider, batch, state, 'submitted')
count(provider, 'submits')
if batch ~= '' and not started then redis.call('HSET', batch_key(batch), 'started', now) end
if ARGV[6] then redis.call('SET', ARGV[6], ARGV[7], 'NX', 'EX', ARGV[8]) end
return opened(0)
