-- A batch as a whole: filled, over, stopped, forgotten. Part of every step, after notices.lua.
-- It is over once nobody fills it and all its jobs have ended. Its `over` is the moment; it has none while it goes on.
-- Its due entry completes what nobody else does: a filling that was given up, an end of its records.

local BATCHES = P .. 'batches'
local FILLING_LEASE = 600        -- who fills a batch says so again within this
local ENOUGH_ENDED = 20          -- jobs, before their share of failures stops a batch

local function filling_key(batch) return P .. 'filling:' .. batch end

-- Keeps a batch for so many more seconds; nil: for as long as it goes on.
local function keep_batch(batch, seconds)
  for _, name in ipairs({'batch:', 'ended-in:', 'jobs-of:', 'lanes-of:', 'spend-of:'}) do
    local key = P .. name .. batch
    if seconds then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
  end
end

-- What is said of a batch that has no job yet is kept until it ought to have some.
local function keep_if_empty(batch, now)
  if redis.call('HEXISTS', batch_key(batch), 'created') == 1 then return end
  redis.call('EXPIRE', batch_key(batch), KEEP)
  redis.call('ZADD', DUE, 'NX', now + KEEP, 'batch:' .. batch)
end

-- A batch that was over, or that had no job yet, goes on.
local function go_on(batch)  -- seldom
  redis.call('HDEL', batch_key(batch), 'over')
  keep_batch(batch)
end

-- Adds jobs to a batch, which goes on with them.
local function join_batch(batch, ids, now)
  local known = redis.call('HMGET', batch_key(batch), 'created', 'over')
  if not known[1] then
    redis.call('HSET', batch_key(batch), 'created', now)
    redis.call('ZADD', BATCHES, now, batch)
  end
  redis.call('HINCRBY', batch_key(batch), 'total', #ids)
  redis.call('RPUSH', P .. 'jobs-of:' .. batch, unpack(ids))
  if not known[1] or known[2] then go_on(batch) end
end

local function number_of(field) return tonumber(field or '0') end

-- Failed and ended jobs of a batch since it was last let go on after it was stopped by its failures, and whether
-- they are so many that it is stopped.
local function failures_of(batch)  -- seldom
  local known = redis.call('HMGET', batch_key(batch), 'failed', 'succeeded', 'forgiven_failed', 'forgiven_ended',
    'max_failures', 'max_failure_share')
  local failed = number_of(known[1])
  local ended = failed + number_of(known[2])
  local failed_since, ended_since = failed - number_of(known[3]), ended - number_of(known[4])
  local too_many = known[5] and failed_since >= tonumber(known[5])
    or known[6] and ended_since >= ENOUGH_ENDED and failed_since >= tonumber(known[6]) * ended_since
  return too_many, failed, ended
end

-- Where too many have failed, as many again may: a person lets it go on.
local function forgive_failures(batch)
  local too_many, failed, ended = failures_of(batch)
  if too_many then
    redis.call('HSET', batch_key(batch), 'forgiven_failed', failed, 'forgiven_ended', ended)
  end
end

-- One failed job less: no more is forgiven than there is.
local function forgive_less(batch)
  local known = redis.call('HMGET', batch_key(batch), 'forgiven_failed', 'forgiven_ended', 'failed', 'succeeded')
  if not known[1] then return end
  local failed = number_of(known[3]) - 1
  redis.call('HSET', batch_key(batch), 'forgiven_failed', math.min(tonumber(known[1]), failed),
    'forgiven_ended', math.min(tonumber(known[2]), failed + number_of(known[4])))
end

-- All jobs of a batch have ended, and nobody fills it who was heard of lately. `url`, `signature`: who is told once it
-- is over.
local function end_batch(batch, now, has_failed, is_over, paused, url, signature)  -- seldom
  local seconds = has_failed and KEEP_DEAD or KEEP
  redis.call('HDEL', batch_key(batch), 'filling')
  redis.call('DEL', filling_key(batch))
  redis.call('ZADD', DUE, now + seconds, 'batch:' .. batch)
  if not is_over then
    redis.call('HSET', batch_key(batch), 'over', now)
    if paused then resume_batch(batch) end
    notice_batch(batch, now, {url, signature})
  end
  keep_batch(batch, seconds)
end

-- Gives who is told of each of its jobs: a URL and a Celery signature; false for nobody.
local function end_batch_if_over(batch, now)
  local total, succeeded, failed, cancelled, filling, over, paused, max_failures, max_share, url, on_each, on_complete =
    unpack(redis.call('HMGET', batch_key(batch), 'total', 'succeeded', 'failed', 'cancelled', 'filling', 'over',
      'paused', 'max_failures', 'max_failure_share', 'notify_url', 'on_each', 'on_complete'))
  local ended = number_of(succeeded) + number_of(failed) + number_of(cancelled)
  if ended < number_of(total) or number_of(filling) > now then
    if (max_failures or max_share) and not paused and failures_of(batch) then pause_batch(batch, 'failures') end
  else
    end_batch(batch, now, number_of(failed) > 0, over, paused, url, on_complete)
  end
  return url, on_each
end

-- Somebody fills a batch, or goes on filling it: until they end it, or are not heard of, it is not over.
local function begin_filling(batch, producer, now)
  local until_ = now + FILLING_LEASE
  redis.call('ZADD', filling_key(batch), until_, producer)
  redis.call('HSET', batch_key(batch), 'filling', until_)
  redis.call('ZADD', DUE, until_, 'batch:' .. batch)
  keep_batch(batch)
end

-- Drops the leases that ran out, and that of `producer` where one is told. Nobody else: the batch may be over.
local function end_filling(batch, now, producer)
  if producer then redis.call('ZREM', filling_key(batch), producer) end
  redis.call('ZREMRANGEBYSCORE', filling_key(batch), '-inf', now)
  local last = redis.call('ZRANGE', filling_key(batch), -1, -1, 'WITHSCORES')[2]
  if last then
    redis.call('HSET', batch_key(batch), 'filling', last)
    redis.call('ZADD', DUE, last, 'batch:' .. batch)
  elseif redis.call('HDEL', batch_key(batch), 'filling') == 1 then
    redis.call('ZREM', DUE, 'batch:' .. batch)
    end_batch_if_over(batch, now)
  end
end

local function forget_batch(batch)
  for _, name in ipairs({'batch:', 'ended-in:', 'jobs-of:', 'lanes-of:', 'spend-of:', 'filling:'}) do
    redis.call('DEL', P .. name .. batch)
  end
  redis.call('ZREM', BATCHES, batch)
  redis.call('SREM', PAUSED, 'batch:' .. batch)
  redis.call('HDEL', WEIGHTS, batch)
  redis.call('ZREM', DUE, 'batch:' .. batch)
end

-- What the due entry of a batch leads to.
local function see_to_batch(batch, now)
  redis.call('ZREM', DUE, 'batch:' .. batch)
  if redis.call('HEXISTS', batch_key(batch), 'filling') == 1 then return end_filling(batch, now) end
  local left = redis.call('TTL', batch_key(batch))
  if left == -2 then return forget_batch(batch) end
  if left >= 0 then redis.call('ZADD', DUE, now + left + 1, 'batch:' .. batch) end
end
