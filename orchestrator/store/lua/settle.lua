-- Applies a verdict to an attempt, once; frees its slot and grants it to the next in line.
-- ARGV: attempt, now, verdict, upstream id, urls, error, next ('finish' | 'again'), again_at,
--       counts (the class of failure it counts as, '' where it is none), rest_until ('' for none), rest_reason,
--       source (callbacks | polls | ''), duration (seconds, '' where it is not told), sample_size,
--       means ('full' | 'too many' | 'moderated' | ''), listed (JSON: attempt → upstream id; '' where unknown),
--       refused_seconds
-- Gives {word, message to finish or false, grants, when it was opened}; word: settled | late | duplicate | unknown | mismatch
local attempt, now, verdict, upstream_id, urls, failure = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local was, id, provider, account, verdict_before, known_as, submitted, timing, expects, opened, granted, content, fate =
  unpack(redis.call('HMGET', attempt_key(attempt), 'state', 'job', 'provider', 'account', 'verdict', 'upstream_id',
    'submitted', 'timing', 'expects', 'opened', 'granted', 'content', 'fate'))
local state = was and job_field(id, 'state')
if not state then return {'unknown', false, {}} end
-- A callback that is genuine for another generation does not speak for this one.
if known_as and upstream_id ~= '' and known_as ~= upstream_id then return {'mismatch', false, {}} end
if ARGV[12] ~= '' then count(provider, ARGV[12]) end
if upstream_id ~= '' and not known_as then redis.call('HSET', attempt_key(attempt), 'upstream_id', upstream_id) end

local grants = {}

if was == 'closed' then
  if upstream_id ~= '' and fate == 'refunded' then spend(attempt, 'at_risk') end  -- it was taken after all
  if verdict ~= 'succeeded' or verdict_before == 'succeeded' then return {'duplicate', false, {}} end
  -- A success after the attempt was given up: it is paid for, so it is offered to the job.
  redis.call('HSET', attempt_key(attempt), 'verdict', 'succeeded', 'told', now)
  spend(attempt, 'confirmed')
  count(provider, 'late')
  if state == 'queued' then
    if not leave_lane(id) then
      local last = last_attempt(id)
      if redis.call('HGET', attempt_key(last), 'state') == 'granted' then close(last, 'superseded', now) end
    end
  elseif state == 'collecting' and job_field(id, 'urls') == '' then
    redis.call('HSET', job_key(id), 'saved', 1)
  elseif state ~= 'failed' then
    redis.call('HSET', job_key(id), 'late_urls', urls, 'late_provider', provider, 'late_account', account)
    return {'late', false, {}}
  end
  local finish = to_finish(id, now, urls, provider, account)
  fill_for(id, now, grants)
  return {'late', finish, grants}
end

-- What is learned: how long generations take, and whether callbacks come.
if submitted and verdict == 'succeeded' then
  local duration, sample = ARGV[13], P .. 'durations:' .. timing
  if ARGV[12] == 'callbacks' then duration = now - tonumber(submitted) end
  if duration ~= '' and redis.call('LPUSH', sample, duration) > tonumber(ARGV[14]) then
    redis.call('LTRIM', sample, 0, ARGV[14] - 1)
  end
end
if expects == '1' and ARGV[12] ~= '' then
  local share = tonumber(redis.call('HGET', P .. 'missing', provider) or '-1')
  local share_now = math.max(share, 0) * 0.9 + (ARGV[12] == 'polls' and 0.1 or 0)
  if share_now ~= share then redis.call('HSET', P .. 'missing', provider, share_now) end
end

close(attempt, verdict, now, ARGV[15] == 'moderated')
count(provider, verdict)
if ARGV[9] ~= '' then
  local failures = cjson.decode(job_field(id, 'failures') or '{}')
  failures[ARGV[9]] = (failures[ARGV[9]] or 0) + 1
  redis.call('HSET', job_key(id), 'failures', cjson.encode(failures))
end
if failure ~= '' then
  redis.call('HSET', attempt_key(attempt), 'error', failure)
  redis.call('HSET', job_key(id), 'error', failure)
end

-- What it tells of the account.
local means = ARGV[15]
if verdict == 'succeeded' then bear_more(provider, account) end
if verdict == 'succeeded' or verdict == 'failed' and opened then
  guard(provider, account, means == 'moderated', now, failure)
end
if means == 'moderated' and content then
  redis.call('SET', refused_key(provider, content), now, 'EX', ARGV[17])
elseif means == 'too many' then
  bear_less(provider, account, granted, now)
elseif means == 'full' then
  local listed = ARGV[16] ~= '' and cjson.decode(ARGV[16]) or nil
  learn_who_holds(provider, account, opened or now, now, ARGV[10], listed)
end
if ARGV[10] ~= '' and means ~= 'full' then rest(provider, account, now, ARGV[10], ARGV[11], failure) end

local finish = false
if state == 'submitted' or state == 'queued' then
  local late_urls = verdict ~= 'succeeded' and job_field(id, 'late_urls')
  if verdict == 'succeeded' then
    finish = to_finish(id, now, urls, provider, account)
  elseif late_urls then
    finish = to_finish(id, now, late_urls, job_field(id, 'late_provider'), job_field(id, 'late_account'))
  elseif ARGV[7] == 'finish' then
    finish = to_finish(id, now, '', provider, account)
  else
    set_state(id, 'queued')
    if tonumber(ARGV[8]) <= now then join_lane(id) else redis.call('ZADD', DUE, ARGV[8], 'job:' .. id) end
  end
elseif verdict == 'succeeded' then
  count(provider, 'surplus')
end
if verdict == 'succeeded' then fill_freed(provider, account, now, grants) else fill_for(id, now, grants) end
return {'settled', finish, grants, opened or ''}
