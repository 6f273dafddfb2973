-- How a job ends, and what is kept of it and its batch. Part of every step, after slots.lua.

local function finish_due(id, now)
  redis.call('ZADD', DUE, now + FINISH_PATIENCE, 'job:' .. id)
  return message(id)
end

-- Keeps a batch for so many more seconds; nil: for as long as it goes on.
local function keep_batch(batch, seconds)
  for _, name in ipairs({'batch:', 'ended-in:', 'jobs-of:', 'lanes-of:', 'spend-of:'}) do
    local key = P .. name .. batch
    if seconds then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
  end
end

-- Adds jobs to a batch, which goes on with them.
local function join_batch(batch, ids, now)
  redis.call('HSETNX', batch_key(batch), 'created', now)
  redis.call('HINCRBY', batch_key(batch), 'total', #ids)
  redis.call('RPUSH', P .. 'jobs-of:' .. batch, unpack(ids))
  keep_batch(batch)
end

-- Keeps a job and its attempts for so many more seconds; nil: for as long as it goes on.
local function keep_job(id, seconds)
  local keys = {job_key(id)}
  for n = 1, tonumber(job_field(id, 'attempts') or '0') do keys[#keys + 1] = attempt_key(id .. '.' .. n) end
  for _, key in ipairs(keys) do
    if seconds then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
  end
end

-- Gives who is told of each of its jobs: a URL and a Celery signature; false for nobody.
local function end_batch_if_over(batch, now, keep_seconds)
  local counts = redis.call('HMGET', batch_key(batch), 'total', 'succeeded', 'failed', 'cancelled', 'notify_url',
    'on_each', 'on_complete')
  local over = tonumber(counts[2] or '0') + tonumber(counts[3] or '0') + tonumber(counts[4] or '0')
  if over < tonumber(counts[1] or '0') then return counts[5], counts[6] end
  keep_batch(batch, tonumber(counts[3] or '0') > 0 and KEEP_DEAD or keep_seconds)
  redis.call('SREM', PAUSED, 'batch:' .. batch)
  redis.call('HDEL', batch_key(batch), 'paused')
  notice_batch(batch, now, {counts[5], counts[7]})
  return counts[5], counts[6]
end

local function announce_end(id, now, keep_seconds)
  local job = redis.call('HMGET', job_key(id), 'batch', 'notify_url')
  local batch, of_batch, on_each = job[1], false, false
  redis.call('HSET', job_key(id), 'ended', now)
  redis.call('PUBLISH', P .. 'ended:' .. id, '1')
  if batch ~= '' then
    redis.call('HSET', job_key(id), 'end_entry', redis.call('XADD', P .. 'ended-in:' .. batch, '*', 'job', id))
    redis.call('HSET', batch_key(batch), 'ended', now)
    of_batch, on_each = end_batch_if_over(batch, now, keep_seconds)
  end
  notice_job(id, now, {job[2], of_batch, on_each})
  keep_job(id, keep_seconds)
end

-- A job that had ended goes on.
local function begin_again(id)
  local job = redis.call('HMGET', job_key(id), 'batch', 'end_entry')
  keep_job(id)
  redis.call('HDEL', job_key(id), 'ended', 'end_entry')
  redis.call('ZREM', DEAD, id)
  if job[1] ~= '' then keep_batch(job[1]) end
  if job[2] then redis.call('XDEL', P .. 'ended-in:' .. job[1], job[2]) end
end

-- The outcome is known: the job is finished as the task it is.
local function to_finish(id, now, urls, provider, account)
  turn_to(id, provider)
  if job_field(id, 'ended') then begin_again(id) end
  redis.call('HSET', job_key(id), 'urls', urls, 'account', account)
  redis.call('HDEL', job_key(id), 'late_urls', 'late_provider', 'late_account', 'urls_die')
  if urls ~= '' then redis.call('HDEL', job_key(id), 'error', 'reason') end
  set_state(id, 'collecting')
  return finish_due(id, now)
end

-- Ends a job that is queued or submitted, without a picture.
local function cancel_job(id, now, keep_seconds, reason)
  leave_lane(id)
  local attempt = last_attempt(id)
  local state = redis.call('HGET', attempt_key(attempt), 'state')
  if state and state ~= 'closed' then close(attempt, 'cancelled', now) end
  if reason then redis.call('HSET', job_key(id), 'reason', reason) end
  set_state(id, 'cancelled')
  announce_end(id, now, keep_seconds)
  return finish_due(id, now)
end
