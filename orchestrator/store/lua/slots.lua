-- Slots: what an account may take, and the granting of it. Part of every step, after lanes.lua.
local GUARD_WINDOW = 3600        -- refusals by moderation are counted, and the account rests, for so long
local EXPIRED_AT_ONCE = 100      -- jobs found expired in one step, at most
local CUT = 0.7                  -- of what was in flight, once the provider says that it is too much
local UNTIL_RESUMED = 4102444800 -- 2100-01-01: only a person ends such a rest
local PROBE_AGAIN = 2            -- seconds after a slot was tried that others held, and nothing was said

local function limits_of(provider, account, ...)
  return redis.call('HMGET', account_key(provider, account), ...)
end

-- How many jobs beyond max_jobs: what was learned; a quarter until then; never more than allowed.
local function ahead_of(max_jobs, most, learned)
  return math.min(tonumber(most or '0'), tonumber(learned or math.ceil(max_jobs / 4)))
end

-- How many an account takes of its slots: no more than the provider was found to bear, than others leave.
local function slots_among(max_jobs, learned, elsewhere, queue_ahead, ahead)
  max_jobs = tonumber(max_jobs or '0')
  local bears = math.min(max_jobs, math.floor(tonumber(learned or max_jobs)))
  return math.max(0, bears + ahead_of(max_jobs, queue_ahead, ahead) - tonumber(elsewhere or '0'))
end

local function slots_of(provider, account)
  return slots_among(unpack(limits_of(provider, account, 'max_jobs', 'learned', 'elsewhere', 'queue_ahead', 'ahead')))
end

-- How many more the daily cap admits, and when it admits one where it does not now.
-- A generation counts for 24 hours.
local function left_today(provider, account, now, cap)  -- seldom
  redis.call('ZREMRANGEBYSCORE', day_key(provider, account), '-inf', now - DAY)
  local left = cap - redis.call('ZCARD', day_key(provider, account))
  if left > 0 then return left end
  return 0, tonumber(redis.call('ZRANGE', day_key(provider, account), -left, -left, 'WITHSCORES')[2] or now) + DAY
end

-- Until when the account takes no work, and why; nil where it takes some now, and then, where it has a daily cap,
-- how many more that admits. The last four are of the account's record.
local function closed_until(provider, account, now, rest_until, rest_reason, max_spend, max_per_day)
  if tonumber(rest_until or '0') > now then return tonumber(rest_until), rest_reason end
  if is_spent(provider, account, max_spend) then return UNTIL_RESUMED, 'spend cap' end
  local cap, left, opens_at = tonumber(max_per_day or '0'), nil, nil
  if cap > 0 then left, opens_at = left_today(provider, account, now, cap) end
  if left == 0 then return opens_at, 'daily cap' end
  return nil, nil, left
end

-- What an account's capacity goes by, of its record: the first of what this reads of it.
local function standing_of(provider, account, ...)
  return limits_of(provider, account, 'rest_until', 'max_spend', 'max_per_day', 'weight', 'requests_per_second',
    'max_jobs', 'learned', 'elsewhere', 'queue_ahead', 'ahead', ...)
end

-- How an account stands that could take work: `used` and `limit` of its slots, what it is `worth` beside others,
-- whether it has a pace or a daily cap; nil where it takes none now. `standing`: where the caller has read it.
local function capacity_of(provider, account, now, standing)
  local rest_until, max_spend, max_per_day, weight, per_second, max_jobs, learned, elsewhere, queue_ahead, ahead =
    unpack(standing or standing_of(provider, account), 1, 10)
  local opens_at, _, left = closed_until(provider, account, now, rest_until, nil, max_spend, max_per_day)
  if opens_at then
    if opens_at < UNTIL_RESUMED then wake_account(provider, account, opens_at) end
    return nil
  end
  redis.call('ZREMRANGEBYSCORE', slots_key(provider, account), '-inf', now)
  local used = redis.call('ZCARD', slots_key(provider, account))
  local limit = slots_among(max_jobs, learned, elsewhere, queue_ahead, ahead)
  if left then limit = math.min(limit, used + left) end
  if used >= limit then return nil end
  return {name = account, used = used, limit = limit, worth = limit * tonumber(weight or '1'),
    has_pace = tonumber(per_second or '0') > 0, is_capped = left ~= nil}
end

-- Seconds until the account's pace has a request left, and when the next would be if it were taken.
local function turn_of(provider, account, now)
  local known = limits_of(provider, account, 'requests_per_second', 'burst', 'next_request')
  local per_second = tonumber(known[1] or '0')
  if per_second <= 0 then return 0 end
  local burst = tonumber(known[2] or '0')
  if burst < 1 then burst = math.max(per_second, 1) end
  local next_request = math.max(tonumber(known[3] or '0'), now)
  local wait = next_request - now - (burst - 1) / per_second
  return math.max(wait, 0), next_request + 1 / per_second
end

-- Takes one request from the account's pace. Gives 0, or the seconds until there is one.
local function take_turn(provider, account, now)  -- seldom
  local wait, next_request = turn_of(provider, account, now)
  if wait <= 0 and next_request then
    redis.call('HSET', account_key(provider, account), 'next_request', next_request)
  end
  return wait
end

-- Of several providers, the job is from now on the one's that serves it. Gives its parameters there.
local function turn_to(id, provider)  -- seldom
  local job = redis.call('HMGET', job_key(id), 'provider', 'choices', 'state')
  local parameters = cjson.decode(job[2])[provider]
  redis.call('HSET', job_key(id), 'provider', provider, 'parameters', parameters)
  redis.call('HINCRBY', COUNTS, job[1] .. '/' .. job[3], -1)
  redis.call('HINCRBY', COUNTS, provider .. '/' .. job[3], 1)
  return parameters
end

-- Grants a slot to a job, unless its time is over. `is_capped`: the account has a daily cap.
-- Gives the message to submit it; nil where it has expired.
local function grant(id, provider, account, now, is_capped)
  local expires, was, parameters, options, attempts, failures, max_attempts = unpack(redis.call('HMGET', job_key(id),
    'expires', 'provider', 'parameters', 'options', 'attempts', 'failures', 'max_attempts'))
  if is_past(expires, now) then return nil end
  if was ~= provider then parameters = turn_to(id, provider) end
  local number = tonumber(attempts or '0') + 1
  local attempt = id .. '.' .. number
  redis.call('HSET', job_key(id), 'attempts', number, 'account', account)
  local record = {'job', id, 'provider', provider, 'account', account, 'state', 'granted', 'granted', now}
  if failures then record[#record + 1] = 'failures'; record[#record + 1] = failures end
  if max_attempts then record[#record + 1] = 'max_attempts'; record[#record + 1] = max_attempts end
  redis.call('HSET', attempt_key(attempt), unpack(record))
  redis.call('ZADD', slots_key(provider, account), now + UNSET_DEADLINE, attempt)
  if is_capped then redis.call('ZADD', day_key(provider, account), now, attempt) end
  redis.call('ZADD', DUE, now + GRANT_PATIENCE, 'job:' .. id)
  return {id, provider, parameters, options or '', number}
end

-- Gives whether there was somebody to grant it to.
local function grant_next(provider, account, now, grants, is_capped)
  for _ = 1, EXPIRED_AT_ONCE do
    local id = next_in_line(provider, account)
    if not id then return false end
    local granted = grant(id, provider, account, now, is_capped)
    if granted then
      grants[#grants + 1] = granted
      return true
    end
    redis.call('ZADD', DUE, now, 'job:' .. id)
  end
  wake_account(provider, account, now)  -- there are more
  return false
end

-- Grants free slots of some of the provider's accounts to who waits, the least loaded for its weight first.
-- `standing`: of the one account, where the caller has read it.
local function grant_slots(provider, accounts, now, grants, standing)  -- seldom
  if is_paused('provider', provider) then return end
  local open = {}
  for _, account in ipairs(accounts) do open[#open + 1] = capacity_of(provider, account, now, standing) end
  -- What cannot be kept is not begun. The ticker fills once it can be.
  if #open > 0 and redis.call('EXISTS', STORAGE) == 1 then return end
  while #open > 0 do
    local place, least = 1, open[1]
    for i = 2, #open do
      if (open[i].used + 1) / open[i].worth < (least.used + 1) / least.worth then place, least = i, open[i] end
    end
    local wait = least.has_pace and someone_waits(provider, least.name) and take_turn(provider, least.name, now) or 0
    if wait > 0 then wake_account(provider, least.name, now + wait) end
    if wait <= 0 and grant_next(provider, least.name, now, grants, least.is_capped) then
      least.used = least.used + 1
    else
      least.used = least.limit
    end
    if least.used >= least.limit then table.remove(open, place) end
  end
end

local function fill(provider, now, grants)
  local wanted = {}
  for _, account in ipairs(redis.call('SMEMBERS', accounts_key(provider))) do
    if someone_waits(provider, account) then wanted[#wanted + 1] = account end
  end
  if #wanted > 0 then grant_slots(provider, wanted, now, grants) end
end

-- One slot was freed, and the others are as full as they were: nobody waits for one of them.
local function fill_freed(provider, account, now, grants, standing)
  if not someone_waits(provider, account) then return end
  if redis.call('SISMEMBER', accounts_key(provider), account) == 0 then return end
  grant_slots(provider, {account}, now, grants, standing)
end

-- Fills the slots of each of these: a set of providers.
local function fill_all(providers, now, grants)
  for provider in pairs(providers) do fill(provider, now, grants) end
end

local function add_providers_of(id, providers)
  for _, provider in ipairs(providers_of(id)) do providers[provider] = true end
end

local function add_providers_of_batch(batch, providers)
  for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes-of:' .. batch)) do
    for _, pool in ipairs(pools_of(lane)) do providers[provider_of(pool)] = true end
  end
end

local function fill_for(id, now, grants)
  for _, provider in ipairs(providers_of(id)) do fill(provider, now, grants) end
end

local function end_rest(provider, account)
  if account_field(provider, account, 'rest_reason') == 'Moderated' then
    redis.call('HDEL', account_key(provider, account), 'guard_since', 'guard_total', 'guard_moderated')
  end
  redis.call('HDEL', account_key(provider, account), 'rest_until', 'rest_reason', 'rest_message', 'rest_since')
end

-- Gives the account no work until then; a rest that lasts longer already is left as it is.
local function rest(provider, account, now, rest_until, reason, why)  -- seldom
  local known = account_field(provider, account, 'rest_until')
  if known and tonumber(known) >= tonumber(rest_until) then return end
  redis.call('HSET', account_key(provider, account), 'rest_until', rest_until, 'rest_reason', reason,
    'rest_message', why, 'rest_since', now)
  wake_account(provider, account, rest_until)
end

-- The account has what others hold taken off its slots. One is tried now and then, and soon again while
-- nothing is said against it.
local function probe(provider, account, now)
  local known = limits_of(provider, account, 'elsewhere', 'probe_at')
  local elsewhere, probe_at = tonumber(known[1] or '0'), tonumber(known[2] or '0')
  if elsewhere > 0 and probe_at <= now then
    elsewhere, probe_at = elsewhere - 1, now + PROBE_AGAIN
    redis.call('HSET', account_key(provider, account), 'elsewhere', elsewhere, 'probe_at', probe_at)
  end
  if elsewhere > 0 then wake_account(provider, account, probe_at) end
end

-- The provider says that the account is full: what we do not hold, others do. `listed`: what it names of ours,
-- attempt → upstream id; nil where it names nothing.
local function learn_who_holds(provider, account, opened, now, probe_at, listed)
  local held = redis.call('ZRANGE', slots_key(provider, account), 0, -1)
  redis.call('HDEL', account_key(provider, account), 'elsewhere')
  local elsewhere = math.max(0, slots_of(provider, account) - #held)
  for _, attempt in ipairs(listed and held or {}) do
    local ours = redis.call('HMGET', attempt_key(attempt), 'state', 'job', 'submitted', 'upstream_id')
    local upstream_id = listed[attempt]
    if upstream_id and not ours[4] then
      redis.call('HSET', attempt_key(attempt), 'upstream_id', upstream_id)
    elseif not upstream_id and ours[1] == 'submitted' and tonumber(ours[3]) < tonumber(opened) then
      redis.call('ZADD', DUE, 'LT', now + PROBE_AGAIN, 'job:' .. ours[2])  -- over, it seems, and we were not told
    end
    listed[attempt] = nil
  end
  -- What it names beyond our leases is what it has not let go yet: that is a matter of moments.
  if listed and next(listed) then probe_at = now + PROBE_AGAIN end
  redis.call('HSET', account_key(provider, account), 'elsewhere', elsewhere, 'probe_at', probe_at)
  wake_account(provider, account, probe_at)
end

-- The provider says that it is too much: once for all that was granted before.
local function bear_less(provider, account, granted, now)
  local known = limits_of(provider, account, 'max_jobs', 'learned', 'cut_at')
  if tonumber(granted) <= tonumber(known[3] or '0') then return end
  local bore = redis.call('ZCARD', slots_key(provider, account)) + 1
  local learned = math.max(1, math.floor(CUT * math.min(bore, tonumber(known[2] or known[1]))))
  redis.call('HSET', account_key(provider, account), 'learned', learned, 'cut_at', now)
end

-- A success with all of the learned slots in use: it bears a little more, one slot for each round.
local function bear_more(provider, account, max_jobs, learned)  -- seldom
  learned = tonumber(learned)
  if redis.call('ZCARD', slots_key(provider, account)) + 1 < math.floor(learned) then return end
  learned = learned + 1 / learned
  if learned >= tonumber(max_jobs) then
    redis.call('HDEL', account_key(provider, account), 'learned', 'cut_at')
  else
    redis.call('HSET', account_key(provider, account), 'learned', tostring(learned))
  end
end

-- Providers suspend accounts that send too much which their moderation refuses: such an account rests.
-- The last three are of its record.
local function guard(provider, account, moderated, now, why, most, most_share, since)
  local key = account_key(provider, account)
  most = tonumber(most or '0')
  if most <= 0 then return end
  if tonumber(since or '0') <= now - GUARD_WINDOW then
    redis.call('HSET', key, 'guard_since', now, 'guard_total', 0, 'guard_moderated', 0)
  end
  local total = redis.call('HINCRBY', key, 'guard_total', 1)
  if not moderated then return end
  local refused = redis.call('HINCRBY', key, 'guard_moderated', 1)
  if refused >= most and refused / total >= tonumber(most_share or '0') then
    rest(provider, account, now, now + GUARD_WINDOW, 'Moderated', why)
  end
end

-- What the closing of an attempt goes by, of its record: the first of what this reads of it.
local function held_of(attempt, ...)
  return redis.call('HMGET', attempt_key(attempt), 'provider', 'account', 'job', 'granted', 'opened', 'upstream_id',
    'fate', 'price', 'uncertain_since', ...)
end

-- A generation of a batch was not taken, and so costs nothing: one may be begun, where it had spent all that it may.
local function spend_less(batch, price)  -- seldom
  local held = redis.call('HMGET', batch_key(batch), 'max_spend', 'paused')
  if held[2] == 'spend' and not is_batch_spent(held[1], batch, tonumber(price)) then resume_batch(batch) end
end

-- Closes an attempt, and frees the slot that it holds. `charged`: the provider charges for it although it failed.
-- `held`, `batch`: where the caller has read them.
local function close(attempt, verdict, now, charged, held, batch)
  local provider, account, id, granted, opened, upstream_id, before, price, doubted =
    unpack(held or held_of(attempt), 1, 9)
  batch = batch or job_field(id, 'batch') or ''
  local record = {'state', 'closed', 'verdict', verdict, 'closed', now}
  local fate = fate_of(opened, upstream_id, verdict, charged)
  if fate then
    record[7], record[8] = 'fate', fate
    book(provider, account, batch, before, fate, opened, price)
  end
  redis.call('HSET', attempt_key(attempt), unpack(record))
  if doubted then redis.call('SREM', UNCERTAIN, attempt) end
  if redis.call('ZREM', slots_key(provider, account), attempt) == 1 then
    local seconds = now - tonumber(granted)
    redis.call('HINCRBYFLOAT', account_key(provider, account), 'busy_seconds', seconds)
    if batch ~= '' then redis.call('HINCRBYFLOAT', batch_key(batch), 'busy_seconds', seconds) end
  end
  if fate and fate ~= 'refunded' then return end
  redis.call('ZREM', day_key(provider, account), attempt)
  if fate and batch ~= '' then spend_less(batch, price) end
end
