-- Shared by every step: it stands before each of the other files. One step is one script, so one moment.
-- `now` (unix seconds) always comes from the caller; KEEP and KEEP_DEAD, for how long what has ended is kept, from
-- the settings. Keys are described in orchestrator/store/__init__.py.
-- What few calls of a step need stands in a function whose first line ends with `-- seldom`: see steps.py.
local P = 'orc:'
local DUE = P .. 'due'
local COUNTS = P .. 'counts'
local STATS = P .. 'stats'
local DEAD = P .. 'dead'
local PAUSED = P .. 'paused'
local WEIGHTS = P .. 'weights'
local UNCERTAIN = P .. 'uncertain'
local COLLECTING = P .. 'collecting'
local STORAGE = P .. 'storage'
local REACHED = P .. 'reached'
local PLACES_PER_PRIORITY = 2 ^ 40
local LEASE_GRACE = 600          -- a lease outlives the deadline of its attempt by this
local GRANT_PATIENCE = 15        -- a grant that nobody opened is sent again after this, then twice that, …
local GRANT_PATIENCE_CAP = 600
local REPLY_GRACE = 30           -- the reply to a submit is waited for by its timeout and this
local BEGIN_PATIENCE = 15        -- a finish that nobody began is sent again after this
local FINISH_PATIENCE = 60       -- one that did not return, or that nobody begins, is sent again after this
local LATE = 5                   -- workers are behind, where what they begin was sent before this
local TURN_PATIENCE = 30         -- what only waits for its turn is looked at again after this
local UNSET_DEADLINE = 86400     -- lease of a grant that is not open yet
local DAY = 86400

local function job_key(id) return P .. 'job:' .. id end
local function attempt_key(attempt) return P .. 'attempt:' .. attempt end
local function account_key(provider, account) return P .. 'account:' .. provider .. '/' .. account end
local function slots_key(provider, account) return P .. 'slots:' .. provider .. '/' .. account end
local function day_key(provider, account) return P .. 'day:' .. provider .. '/' .. account end
local function accounts_key(provider) return P .. 'accounts:' .. provider end
local function served_key(provider) return P .. 'served:' .. provider end
local function refused_key(provider, content) return P .. 'refused:' .. provider .. ':' .. content end
local function batch_key(batch) return P .. 'batch:' .. batch end
local function was_key(id) return P .. 'was:' .. id end

local function job_field(id, field) return redis.call('HGET', job_key(id), field) end

-- What was asked for by one message, not sent again, is begun: notes when that was sent, and when this is. Neither
-- goes back. `queue`: submit | finish
local function reach(queue, sent, now)
  redis.call('ZADD', REACHED, 'GT', sent, queue .. '/sent', now, queue .. '/begun')
end

-- Whether what was sent then, and that long ago that it might be lost, only waits: workers are behind, but go on, and
-- have begun nothing yet that was sent well after it. They take messages about in the order in which they were sent.
local function waits_for_turn(queue, sent, now)
  local reached, begun = unpack(redis.call('ZMSCORE', REACHED, queue .. '/sent', queue .. '/begun'))
  if not begun then return false end
  local go_on, are_behind = math.abs(now - begun) < GRANT_PATIENCE, begun - reached > LATE
  return go_on and are_behind and reached - sent <= GRANT_PATIENCE
end

local function account_field(provider, account, field)
  return redis.call('HGET', account_key(provider, account), field)
end

local function last_attempt(id)
  return id .. '.' .. (job_field(id, 'attempts') or '0')
end

local function count(provider, word, by)
  redis.call('HINCRBY', STATS, provider .. '/' .. word, by or 1)
end

local function count_states(provider, batch, old, new)
  if old then redis.call('HINCRBY', COUNTS, provider .. '/' .. old, -1) end
  redis.call('HINCRBY', COUNTS, provider .. '/' .. new, 1)
  if batch ~= '' then
    if old then redis.call('HINCRBY', batch_key(batch), old, -1) end
    redis.call('HINCRBY', batch_key(batch), new, 1)
  end
end

-- `old`, `provider`, `batch`: what the job's record says.
local function change_state(id, provider, batch, old, new)
  if old == new then return end
  redis.call('HSET', job_key(id), 'state', new)
  count_states(provider, batch, old, new)
end

local function set_state(id, new)
  local job = redis.call('HMGET', job_key(id), 'state', 'provider', 'batch')
  change_state(id, job[2], job[3], job[1], new)
end

-- What a Celery message of this job is made of.
local function message(id)
  local job = redis.call('HMGET', job_key(id), 'provider', 'parameters', 'options', 'attempts')
  return {id, job[1], job[2], job[3] or '', tonumber(job[4] or '0')}
end

local function wake_account(provider, account, at)
  redis.call('ZADD', DUE, 'LT', at, 'account:' .. provider .. '/' .. account)
end

local function is_paused(kind, name)
  return redis.call('SISMEMBER', PAUSED, kind .. ':' .. name) == 1
end

-- `moment`: nil or false where there is none.
local function is_past(moment, now) return moment and tonumber(moment) <= now end

local function has_expired(id, now) return is_past(job_field(id, 'expires'), now) end
