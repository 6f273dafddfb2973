-- How a job ends, and what is kept of it. Part of every step, after batches.lua.

local function finish_due(id, now)
  redis.call('ZADD', DUE, now + FINISH_PATIENCE, 'job:' .. id)
  return message(id)
end

-- Until when a finish that is begun, or held, now is its worker's. No two are alike, so it is a token as well.
local function lease_finish(id, now)
  local lease = string.format('%.17g', now + FINISH_PATIENCE)
  redis.call('HSET', job_key(id), 'finishing', lease, 'begun', 1)
  redis.call('ZADD', DUE, lease, 'job:' .. id)
  return lease
end

-- Keeps a job and so many attempts for so many more seconds at most; nil: for as long as it goes on.
local function keep_job(id, attempts, seconds)
  local keys = {job_key(id)}
  for n = 1, tonumber(attempts or '0') do keys[#keys + 1] = attempt_key(id .. '.' .. n) end
  for _, key in ipairs(keys) do
    if seconds then redis.call('EXPIRE', key, seconds, 'LT') else redis.call('PERSIST', key) end
  end
end

-- What ending a job goes by, of its record: the first of what this reads of it.
local function job_of(id, ...)
  return redis.call('HMGET', job_key(id), 'state', 'provider', 'batch', 'attempts', 'notify_url', ...)
end

-- Ends a job as `state`, and tells of it. `more`: what else is kept of it, as names and values; changed by this.
-- `job`: where the caller has read it.
local function end_job(id, now, state, more, job)
  local was, provider, batch, attempts, notify_url = unpack(job or job_of(id), 1, 5)
  local record, of_batch, on_each = more, false, false
  record[#record + 1] = 'state'; record[#record + 1] = state
  record[#record + 1] = 'ended'; record[#record + 1] = now
  if batch ~= '' then
    record[#record + 1] = 'end_entry'
    record[#record + 1] = redis.call('XADD', P .. 'ended-in:' .. batch, '*', 'job', id)
  end
  redis.call('HSET', job_key(id), unpack(record))
  if was ~= state then count_states(provider, batch, was, state) end
  redis.call('PUBLISH', P .. 'ended:' .. id, '1')
  if batch ~= '' then
    redis.call('HSET', batch_key(batch), 'ended', now)
    of_batch, on_each = end_batch_if_over(batch, now)
  end
  if notify_url or of_batch or on_each then notice_job(id, now, {notify_url, of_batch, on_each}) end
  keep_job(id, attempts, state == 'failed' and KEEP_DEAD or KEEP)
end

-- A job that had ended goes on.
local function begin_again(id)  -- seldom
  local job = redis.call('HMGET', job_key(id), 'batch', 'end_entry', 'attempts')
  keep_job(id, job[3])
  redis.call('HDEL', job_key(id), 'ended', 'end_entry')
  redis.call('ZREM', DEAD, id)
  if job[1] ~= '' then
    go_on(job[1])
    forgive_less(job[1])
  end
  if job[2] then redis.call('XDEL', P .. 'ended-in:' .. job[1], job[2]) end
end

-- What finishing a job goes by, of its record.
local function outcome_of(id)
  return redis.call('HMGET', job_key(id), 'state', 'batch', 'provider', 'parameters', 'options', 'attempts', 'ended',
    'late_urls', 'urls_die', 'error', 'reason', 'created')
end

-- The outcome is known: the job is finished as the task it is. `job`: where the caller has read it.
local function to_finish(id, now, urls, provider, account, job)
  local state, batch, was, parameters, options, attempts, ended, late, urls_die, failure, reason =
    unpack(job or outcome_of(id), 1, 11)
  if was ~= provider then parameters = turn_to(id, provider) end
  if ended then begin_again(id) end
  if late or urls_die then
    redis.call('HDEL', job_key(id), 'late_urls', 'late_provider', 'late_account', 'urls_die')
  end
  if urls ~= '' and (failure or reason) then redis.call('HDEL', job_key(id), 'error', 'reason') end
  redis.call('HSET', job_key(id), 'urls', urls, 'account', account, 'state', 'collecting', 'sent', now)
  if state ~= 'collecting' then count_states(provider, batch, state, 'collecting') end
  redis.call('ZADD', DUE, now + BEGIN_PATIENCE, 'job:' .. id)
  return {id, provider, parameters, options or '', tonumber(attempts or '0')}
end

-- Ends a job that is queued or submitted, without a picture.
local function cancel_job(id, now, reason)
  leave_lane(id)
  local attempt = last_attempt(id)
  local held = redis.call('HMGET', attempt_key(attempt), 'state', 'upstream_id')
  if held[1] and held[1] ~= 'closed' then close(attempt, 'cancelled', now) end
  if held[2] then redis.call('HSET', job_key(id), 'to_stop', held[2]) end
  end_job(id, now, 'cancelled', reason and {'reason', reason} or {})
  return finish_due(id, now)
end
