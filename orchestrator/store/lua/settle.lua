-- Applies a verdict to an attempt, once; frees its slot and grants it to the next in line.
-- ARGV: attempt, now, verdict, upstream id, urls, error, next ('finish' | 'again'), again_at,
--       counts (the class of failure it counts as, '' where it is none), rest_until ('' for none), rest_reason,
--       source (callbacks | polls | ''), duration (seconds, '' where it is not told), sample_size,
--       means ('full' | 'too many' | 'moderated' | ''), listed (JSON: attempt → upstream id; '' where unknown),
--       refused_seconds, nameless ('1': it holds only while no upstream id is known | '')
-- Gives {word, message to finish or false, grants, when it was opened, on whose behalf the job may be ended ('' for
-- none), when that came}; word: settled | late | duplicate | unknown | mismatch | pending, with nothing done
local UNTAKEN_KEPT = 3600        -- an attempt that nobody took is known for so long
local attempt, now, verdict, upstream_id, urls, failure = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local source, means, grants = ARGV[12], ARGV[15], {}
local held = held_of(attempt, 'state', 'verdict', 'submitted', 'timing', 'expects', 'content', 'on_behalf',
  'keep')
local provider, account, id, granted, opened, known_as, fate = unpack(held, 1, 7)
local was, verdict_before, submitted, timing, expects, content, on_behalf, keep = unpack(held, 10, 17)
local job = was and outcome_of(id)
if not (job and job[1]) then return {'unknown', false, {}} end
local state, batch = job[1], job[2] or ''
-- A callback that is genuine for another generation does not speak for this one.
if known_as and upstream_id ~= '' and known_as ~= upstream_id then return {'mismatch', false, {}} end
-- While its provider was asked whether it has it, somebody else told what it is called there.
if known_as and known_as ~= '' and was ~= 'closed' and ARGV[18] == '1' then return {'pending', false, {}} end
if source ~= '' then count(provider, source) end
if upstream_id ~= '' and not known_as then
  redis.call('HSET', attempt_key(attempt), 'upstream_id', upstream_id)
  held[6] = upstream_id
end

-- The attempt was closed before.
local function again()  -- seldom
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

if was == 'closed' then return again() end

-- What a failure tells of the account.
local function learn()  -- seldom
  if verdict == 'failed' and opened then
    guard(provider, account, means == 'moderated', now, failure, unpack(limits_of(provider, account,
      'max_moderated', 'max_moderated_share', 'guard_since')))
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
end

-- Gives the message to finish the job that the attempt failed; false where it lines up again, or is over.
local function fail()  -- seldom
  if ARGV[9] ~= '' then
    local failures = cjson.decode(job_field(id, 'failures') or '{}')
    failures[ARGV[9]] = (failures[ARGV[9]] or 0) + 1
    redis.call('HSET', job_key(id), 'failures', cjson.encode(failures))
  end
  if failure ~= '' then
    redis.call('HSET', attempt_key(attempt), 'error', failure)
    redis.call('HSET', job_key(id), 'error', failure)
  end
  -- Such attempts may follow each other for days, while a provider is away or full.
  if ARGV[9] == '' and not held[6] then redis.call('EXPIRE', attempt_key(attempt), UNTAKEN_KEPT) end
  learn()
  local finish = false
  if state == 'submitted' or state == 'queued' then
    local late_urls = job_field(id, 'late_urls')
    if late_urls then
      finish = to_finish(id, now, late_urls, job_field(id, 'late_provider'), job_field(id, 'late_account'))
    elseif ARGV[7] == 'finish' then
      finish = to_finish(id, now, '', provider, account)
    else
      set_state(id, 'queued')
      if tonumber(ARGV[8]) <= now then join_lane(id) else redis.call('ZADD', DUE, ARGV[8], 'job:' .. id) end
    end
  end
  fill_for(id, now, grants)
  return finish
end

-- What is learned: how long generations take, and whether callbacks come.
if submitted and verdict == 'succeeded' then
  local duration, sample = ARGV[13], P .. 'durations:' .. timing
  if source == 'callbacks' then duration = now - tonumber(submitted) end
  if duration ~= '' and redis.call('LPUSH', sample, duration) > tonumber(ARGV[14]) then
    redis.call('LTRIM', sample, 0, ARGV[14] - 1)
  end
end
if expects == '1' and source ~= '' then
  local share = tonumber(redis.call('HGET', P .. 'missing', provider) or '-1')
  local share_now = math.max(share, 0) * 0.9 + (source == 'polls' and 0.1 or 0)
  if share_now ~= share then redis.call('HSET', P .. 'missing', provider, share_now) end
end

close(attempt, verdict, now, means == 'moderated', held, batch)
count(provider, verdict)
local finish = false
if verdict == 'succeeded' then
  local standing = standing_of(provider, account, 'max_moderated', 'max_moderated_share', 'guard_since')
  guard(provider, account, false, now, '', unpack(standing, 11, 13))
  if standing[7] then
    bear_more(provider, account, standing[6], standing[7])
    standing = nil
  end
  if state == 'submitted' or state == 'queued' then
    finish = to_finish(id, now, urls, provider, account, job)
  else
    count(provider, 'surplus')
  end
  fill_freed(provider, account, now, grants, standing)
else
  finish = fail()
end
-- Only by a process that is to keep what has ended for as long as that worker is.
local ends = verdict == 'succeeded' and finish and keep == tostring(KEEP) and on_behalf
return {'settled', finish, grants, opened or '', ends or '', ends and job[12] or ''}
