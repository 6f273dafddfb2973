-- Shared by every step: it stands before each of the other files. One step is one script, so one moment.
-- `now` (unix seconds) always comes from the caller. Keys are described in store.py.
local P = 'orc:'
local DUE, COUNTS, STATS = P .. 'due', P .. 'counts', P .. 'stats'
local PLACES_PER_PRIORITY = 2 ^ 40
local LEASE_GRACE = 600          -- a lease outlives the deadline of its attempt by this
local GRANT_PATIENCE = 15        -- a grant that nobody opened is sent again after this, then twice that, …
local GRANT_PATIENCE_CAP = 600
local REPLY_GRACE = 30          -- the reply to a submit is waited for by its timeout and this
local FINISH_PATIENCE = 60       -- a finish that did not return is sent again after this
local UNSET_DEADLINE = 86400     -- lease of a grant that is not open yet

local function job_key(id) return P .. 'job:' .. id end
local function attempt_key(attempt) return P .. 'attempt:' .. attempt end
local function account_key(provider, account) return P .. 'account:' .. provider .. '/' .. account end
local function slots_key(provider, account) return P .. 'slots:' .. provider .. '/' .. account end
local function accounts_key(provider) return P .. 'accounts:' .. provider end
local function lanes_key(target) return P .. 'lanes:' .. target end
local function lane_key(target, lane) return P .. 'lane:' .. target .. '|' .. lane end
local function served_key(provider) return P .. 'served:' .. provider end
local function batch_key(batch) return P .. 'batch:' .. batch end

local function job_field(id, field) return redis.call('HGET', job_key(id), field) end

local function last_attempt(id)
  return id .. '.' .. (job_field(id, 'attempts') or '0')
end

local function target_of(provider, pinned)
  if pinned and pinned ~= '' then return provider .. '/' .. pinned end
  return provider
end

local function set_state(id, new)
  local job = redis.call('HMGET', job_key(id), 'state', 'provider', 'batch')
  local old, provider, batch = job[1], job[2], job[3]
  if old == new then return end
  redis.call('HSET', job_key(id), 'state', new)
  if old then redis.call('HINCRBY', COUNTS, provider .. '/' .. old, -1) end
  redis.call('HINCRBY', COUNTS, provider .. '/' .. new, 1)
  if batch ~= '' then
    if old then redis.call('HINCRBY', batch_key(batch), old, -1) end
    redis.call('HINCRBY', batch_key(batch), new, 1)
  end
end

local function count(provider, word, by)
  redis.call('HINCRBY', STATS, provider .. '/' .. word, by or 1)
end

-- What a Celery message of this job is made of.
local function message(id)
  local job = redis.call('HMGET', job_key(id), 'provider', 'parameters', 'options', 'attempts')
  return {id, job[1], job[2], job[3] or '', tonumber(job[4] or '0')}
end

local function join_lane(id)
  local job = redis.call('HMGET', job_key(id), 'provider', 'pinned', 'batch', 'place')
  local target, lane = target_of(job[1], job[2]), job[3]
  redis.call('ZADD', lane_key(target, lane), job[4], id)
  if not redis.call('ZSCORE', lanes_key(target), lane) then
    -- A new lane begins level with those that are served now: it neither waits for them nor they for it.
    redis.call('ZADD', lanes_key(target), redis.call('GET', served_key(job[1])) or 0, lane)
  end
  redis.call('ZREM', DUE, 'job:' .. id)
end

local function leave_lane(id)
  local job = redis.call('HMGET', job_key(id), 'provider', 'pinned', 'batch')
  local target, lane = target_of(job[1], job[2]), job[3]
  local left = redis.call('ZREM', lane_key(target, lane), id)
  if redis.call('EXISTS', lane_key(target, lane)) == 0 then redis.call('ZREM', lanes_key(target), lane) end
  return left == 1
end

-- The lane least served so far, and how much that was.
local function least_served(target)
  local found = redis.call('ZRANGE', lanes_key(target), 0, 0, 'WITHSCORES')
  return found[1], tonumber(found[2])
end

-- The next in line for an account: of the lane least served, its own or common, first by priority, then by age.
local function next_in_line(provider, account)
  local target = target_of(provider, account)
  local lane, served = least_served(target)
  local common, served_common = least_served(provider)
  if common and (not lane or served_common < served) then target, lane, served = provider, common, served_common end
  if not lane then return nil end
  -- A lane that was held up may lag; those that begin after it do not begin that far behind.
  local before = tonumber(redis.call('GET', served_key(provider)) or '0')
  redis.call('SET', served_key(provider), math.max(before, served))
  local id = redis.call('ZPOPMIN', lane_key(target, lane))[1]
  if redis.call('EXISTS', lane_key(target, lane)) == 0 then
    redis.call('ZREM', lanes_key(target), lane)
  else
    redis.call('ZINCRBY', lanes_key(target), 1, lane)
  end
  return id
end

local function someone_waits(provider, account)
  return redis.call('EXISTS', lanes_key(provider), lanes_key(target_of(provider, account))) > 0
end

local function grant_next(provider, account, now, grants)
  local id = next_in_line(provider, account)
  if not id then return false end
  local attempt = id .. '.' .. redis.call('HINCRBY', job_key(id), 'attempts', 1)
  redis.call('HSET', job_key(id), 'account', account)
  redis.call('HSET', attempt_key(attempt), 'job', id, 'provider', provider, 'account', account,
    'state', 'granted', 'granted', now, 'failures', job_field(id, 'failures') or '0')
  redis.call('ZADD', slots_key(provider, account), now + UNSET_DEADLINE, attempt)
  redis.call('ZADD', DUE, now + GRANT_PATIENCE, 'job:' .. id)
  grants[#grants + 1] = message(id)
  return true
end

-- How many jobs beyond max_jobs: what was learned; a quarter until then; never more than allowed.
local function ahead_of(max_jobs, most, learned)
  return math.min(tonumber(most or '0'), tonumber(learned or math.ceil(tonumber(max_jobs or '0') / 4)))
end

local function load_of(provider, account, now)
  local limits = redis.call('HMGET', account_key(provider, account), 'max_jobs', 'rest_until', 'queue_ahead', 'ahead')
  if tonumber(limits[2] or '0') > now then return nil end
  redis.call('ZREMRANGEBYSCORE', slots_key(provider, account), '-inf', now)
  return redis.call('ZCARD', slots_key(provider, account)), tonumber(limits[1] or '0') + ahead_of(limits[1], limits[3], limits[4])
end

-- Takes one request from the account's pace. Gives 0, or the seconds until there is one.
local function take_turn(provider, account, now)
  local known = redis.call('HMGET', account_key(provider, account), 'requests_per_second', 'next_request')
  local per_second = tonumber(known[1] or '0')
  if per_second <= 0 then return 0 end
  local next_request = math.max(tonumber(known[2] or '0'), now)
  local wait = next_request - now - math.max(per_second - 1, 0) / per_second
  if wait > 0 then return wait end
  redis.call('HSET', account_key(provider, account), 'next_request', next_request + 1 / per_second)
  return 0
end

-- Grants free slots of the provider's able accounts to who waits, the least loaded account first.
local function fill(provider, now, grants)
  local able = {}
  for _, account in ipairs(redis.call('SMEMBERS', accounts_key(provider))) do
    local used, limit = load_of(provider, account, now)
    if used and used < limit then able[#able + 1] = {account, used, limit} end
  end
  while #able > 0 do
    local least = 1
    for i = 2, #able do
      if able[i][2] / able[i][3] < able[least][2] / able[least][3] then least = i end
    end
    local chosen = able[least]
    local wait = someone_waits(provider, chosen[1]) and take_turn(provider, chosen[1], now) or 0
    if wait > 0 then redis.call('ZADD', DUE, 'LT', now + wait, 'account:' .. provider .. '/' .. chosen[1]) end
    if wait <= 0 and grant_next(provider, chosen[1], now, grants) then
      chosen[2] = chosen[2] + 1
    else
      chosen[2] = chosen[3]
    end
    if chosen[2] >= chosen[3] then table.remove(able, least) end
  end
end

local function end_rest(provider, account)
  redis.call('HDEL', account_key(provider, account), 'rest_until', 'rest_reason', 'rest_message')
end

-- Gives the account no work until then; a rest that lasts longer already is left as it is.
local function rest(provider, account, rest_until, reason, why)
  local known = redis.call('HGET', account_key(provider, account), 'rest_until')
  if known and tonumber(known) >= tonumber(rest_until) then return end
  redis.call('HSET', account_key(provider, account), 'rest_until', rest_until, 'rest_reason', reason,
    'rest_message', why)
  redis.call('ZADD', DUE, rest_until, 'account:' .. provider .. '/' .. account)
end

local function end_rest_if_over(provider, account, now)
  local rest_until = redis.call('HGET', account_key(provider, account), 'rest_until')
  if not rest_until then return end
  if tonumber(rest_until) <= now then return end_rest(provider, account) end
  redis.call('ZADD', DUE, rest_until, 'account:' .. provider .. '/' .. account)  -- it was due for something else
end

-- Frees the slot that the attempt holds. Safe to call twice.
local function release(attempt, now)
  local held = redis.call('HMGET', attempt_key(attempt), 'provider', 'account', 'granted')
  local provider, account = held[1], held[2]
  if redis.call('ZREM', slots_key(provider, account), attempt) == 0 then return end
  redis.call('HINCRBYFLOAT', account_key(provider, account), 'busy_seconds', now - tonumber(held[3]))
  if redis.call('HGET', account_key(provider, account), 'rest_reason') == 'full' then
    end_rest(provider, account)
  end
end

local function close(attempt, verdict, now)
  redis.call('HSET', attempt_key(attempt), 'state', 'closed', 'verdict', verdict, 'closed', now)
  release(attempt, now)
end

local function finish_due(id, now)
  redis.call('ZADD', DUE, now + FINISH_PATIENCE, 'job:' .. id)
  return message(id)
end

-- Keeps a batch for so many more seconds; nil: for as long as it goes on.
local function keep_batch(batch, seconds)
  for _, key in ipairs({batch_key(batch), P .. 'ended-in:' .. batch, P .. 'jobs-of:' .. batch}) do
    if seconds then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
  end
end

local function announce_end(id, now, keep_seconds)
  local batch = job_field(id, 'batch')
  redis.call('HSET', job_key(id), 'ended', now)
  redis.call('PUBLISH', P .. 'ended:' .. id, '1')
  if batch ~= '' then
    redis.call('XADD', P .. 'ended-in:' .. batch, '*', 'job', id)
    redis.call('HSET', batch_key(batch), 'ended', now)
    local counts = redis.call('HMGET', batch_key(batch), 'total', 'succeeded', 'failed', 'cancelled')
    local over = tonumber(counts[2] or '0') + tonumber(counts[3] or '0') + tonumber(counts[4] or '0')
    if over >= tonumber(counts[1]) then keep_batch(batch, keep_seconds) end
  end
  redis.call('EXPIRE', job_key(id), keep_seconds)
  for n = 1, tonumber(job_field(id, 'attempts') or '0') do
    redis.call('EXPIRE', attempt_key(id .. '.' .. n), keep_seconds)
  end
end
