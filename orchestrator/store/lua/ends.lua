-- How a job ends, and what is kept of it. Part of every step, after batches.lua.

local function finish_due(id, now)
  redis.call('ZADD', DUE, now + FINISH_PATIENCE, 'job:' .. id)
  return message(id)
end

-- Until when a finish that is begun, or held, now is its worker's. No two are alike, so it is a token as well.
local function lease_finish(id, now)
  local lease = string.format('%.17g', now + FINISH_PATIENCE)
  redis.call('HSET', job_key(id), 'finishing', lease)
  redis.call('ZADD', DUE, lease, 'job:' .. id)
  return lease
end

-- Keeps a job and its attempts for so many more seconds; nil: for as long as it goes on.
local function keep_job(id, seconds)
  local keys = {job_key(id)}
  for n = 1, tonumber(job_field(id, 'attempts') or '0') do keys[#keys + 1] = attempt_key(id .. '.' .. n) end
  for _, key in ipairs(keys) do
    if seconds then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
  end
end

local function announce_end(id, now)
  local job = redis.call('HMGET', job_key(id), 'batch', 'notify_url', 'state')
  local batch, of_batch, on_each = job[1], false, false
  redis.call('HSET', job_key(id), 'ended', now)
  redis.call('PUBLISH', P .. 'ended:' .. id, '1')
  if batch ~= '' then
    redis.call('HSET', job_key(id), 'end_entry', redis.call('XADD', P .. 'ended-in:' .. batch, '*', 'job', id))
    redis.call('HSET', batch_key(batch), 'ended', now)
    of_batch, on_each = end_batch_if_over(batch, now)
  end
  notice_job(id, now, {job[2], of_batch, on_each})
  keep_job(id, job[3] == 'failed' and KEEP_DEAD or KEEP)
end

-- A job that had ended goes on.
local function begin_again(id)
  local job = redis.call('HMGET', job_key(id), 'batch', 'end_entry')
  keep_job(id)
  redis.call('HDEL', job_key(id), 'ended', 'end_entry')
  redis.call('ZREM', DEAD, id)
  if job[1] ~= '' then
    go_on(job[1])
    forgive_less(job[1])
  end
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
local function cancel_job(id, now, reason)
  leave_lane(id)
  local attempt = last_attempt(id)
  local held = redis.call('HMGET', attempt_key(attempt), 'state', 'upstream_id')
  if held[1] and held[1] ~= 'closed' then close(attempt, 'cancelled', now) end
  if held[2] then redis.call('HSET', job_key(id), 'to_stop', held[2]) end
  if reason then redis.call('HSET', job_key(id), 'reason', reason) end
  set_state(id, 'cancelled')
  announce_end(id, now)
  return finish_due(id, now)
end
