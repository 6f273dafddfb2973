-- Notices: what must be told to somebody when a job or a batch ends. Part of every step, before ends.lua.
-- They wait by the host they go to. A host has one due entry, however many wait for it; a few are on their way to
-- it at once; and where it does not answer it rests, and is tried by one at a time.
local NOTICES, DEAD_NOTICES = P .. 'notices', P .. 'dead-notices'
local CELERY = '@celery'         -- the host of those that call a Celery signature
local TOLD_AT_ONCE = 4           -- notices on their way to one host
local TELL_PATIENCE = 30         -- one that was taken, and of which nothing was heard, is sent again after this
local FAILURES_TO_REST = 5       -- of a host, in a row
local HOST_REST, HOST_REST_CAP = 15, 300
local GIVE_UP = DAY              -- notices are tried for so long
local GIVEN_UP_AT_ONCE = 200
local TOLD_OF_JOB = {'provider', 'account', 'batch', 'custom_id', 'attempts', 'created', 'result', 'error', 'reason'}
local TOLD_OF_BATCH = {'total', 'succeeded', 'failed', 'cancelled'}

local function notice_key(id) return P .. 'notice:' .. id end
local function host_key(host) return P .. 'host:' .. host end
local function waiting_key(host) return P .. 'notices:' .. host end
local function telling_key(host) return P .. 'telling:' .. host end

local function host_of(target)
  return string.sub(target, 1, 1) == '{' and CELERY or string.lower(string.match(target, '^%a+://([^/?#]+)') or '?')
end

-- A host is due with the first of its notices, but not before its rest is over.
local function wake_host(host)
  local first = redis.call('ZRANGE', waiting_key(host), 0, 0, 'WITHSCORES')
  if not first[1] then return redis.call('ZREM', DUE, 'notices:' .. host) end
  local rest_until = tonumber(redis.call('HGET', host_key(host), 'rest_until') or '0')
  redis.call('ZADD', DUE, math.max(tonumber(first[2]), rest_until), 'notices:' .. host)
end

local function line_up(id, host, now)
  redis.call('ZADD', NOTICES, now, id)
  redis.call('ZADD', waiting_key(host), now, id)
  redis.call('ZADD', DUE, 'LT', now, 'notices:' .. host)
end

-- `facts`: what is told, as fields. The same end has the same ids; another end of the same job or batch, others.
local function add_notices(kind, about, now, targets, facts)
  local ids, seen = {}, {}
  local event = table.concat({kind, about, now, unpack(facts)}, '\n')
  for _, target in ipairs(targets) do
    if target and not seen[target] then
      seen[target] = true
      local id, host = string.sub(redis.sha1hex(event .. '\n' .. target), 1, 24), host_of(target)
      redis.call('HSET', notice_key(id), 'type', kind, 'about', about, 'target', target, 'host', host, 'made', now,
        'state', 'waiting', unpack(facts))
      line_up(id, host, now)
      ids[#ids + 1] = id
    end
  end
  return ids
end

-- What is told of an end: names and values, those left out that say nothing.
local function facts_of(names, values)
  local facts = {}
  for i, name in ipairs(names) do
    if values[i] and values[i] ~= '' then
      facts[#facts + 1] = name
      facts[#facts + 1] = values[i]
    end
  end
  return facts
end

-- Tells of a job that has just ended. `targets`: whom; false for nobody.
local function notice_job(id, now, targets)  -- seldom
  local job = redis.call('HMGET', job_key(id), 'state', 'notices', unpack(TOLD_OF_JOB))
  local ids = add_notices('job.' .. job[1], id, now, targets, facts_of(TOLD_OF_JOB, {unpack(job, 3)}))
  redis.call('HSET', job_key(id), 'notices', (job[2] and job[2] .. ' ' or '') .. table.concat(ids, ' '))
end

-- Tells of a batch that is over. `targets`: whom; false for nobody.
local function notice_batch(batch, now, targets)  -- seldom
  if not (targets[1] or targets[2]) then return end
  local counts = redis.call('HMGET', batch_key(batch), unpack(TOLD_OF_BATCH))
  add_notices('batch.completed', batch, now, targets, facts_of(TOLD_OF_BATCH, counts))
end

-- How many more notices may be on their way to a host: none while it rests, one where it did not answer lately.
local function room_at(host, now)
  local known = redis.call('HMGET', host_key(host), 'failures', 'rest_until')
  if tonumber(known[2] or '0') > now then return 0 end
  redis.call('ZREMRANGEBYSCORE', telling_key(host), '-inf', now)
  local most = tonumber(known[1] or '0') >= FAILURES_TO_REST and 1 or TOLD_AT_ONCE
  return most - redis.call('ZCARD', telling_key(host))
end

-- Takes the next notice of a host that is due, by pushing it forward. Gives it as {id, fields}; else false.
local function take_notice(host, now)
  if room_at(host, now) <= 0 then return false end
  local id = redis.call('ZRANGEBYSCORE', waiting_key(host), '-inf', now, 'LIMIT', 0, 1)[1]
  if not id then return false end
  redis.call('ZADD', waiting_key(host), now + TELL_PATIENCE, id)
  redis.call('ZADD', telling_key(host), now + TELL_PATIENCE, id)
  redis.call('HSETNX', notice_key(id), 'first_tried', now)
  redis.call('HINCRBY', notice_key(id), 'tries', 1)
  wake_host(host)
  return {id, redis.call('HGETALL', notice_key(id))}
end

-- A notice waits no more.
local function leave_host(id, host)
  redis.call('ZREM', NOTICES, id)
  redis.call('ZREM', waiting_key(host), id)
  redis.call('ZREM', telling_key(host), id)
end

local function give_notice_up(id, host, now)
  leave_host(id, host)
  redis.call('HSET', notice_key(id), 'state', 'dead', 'ended', now)
  redis.call('EXPIRE', notice_key(id), KEEP_DEAD)
  redis.call('ZADD', DEAD_NOTICES, now, id)
end

-- A host that has not answered for as long as notices are tried: those that waited for it so long are given up.
-- Gives whether there may be more of them.
local function give_host_up(host, now)
  local known = redis.call('HMGET', host_key(host), 'failing_since', 'answer')
  if tonumber(known[1] or now) > now - GIVE_UP then return false end
  local due = redis.call('ZRANGEBYSCORE', waiting_key(host), '-inf', now, 'LIMIT', 0, GIVEN_UP_AT_ONCE)
  for _, id in ipairs(due) do
    local made = redis.call('HGET', notice_key(id), 'made')
    if not made then
      leave_host(id, host)
    elseif tonumber(made) > now - GIVE_UP then
      return false
    else
      redis.call('HSET', notice_key(id), 'answer', known[2])
      give_notice_up(id, host, now)
    end
  end
  return #due == GIVEN_UP_AT_ONCE
end

-- What the due entry of a host leads to. Gives how many senders it could do with.
local function claim_host(host, now)
  if give_host_up(host, now) then
    redis.call('ZADD', DUE, now, 'notices:' .. host)
    return 0
  end
  local room = math.min(room_at(host, now), redis.call('ZCOUNT', waiting_key(host), '-inf', now))
  if room > 0 then return room end
  wake_host(host)
  -- As many as may be are on their way: each of them sees to the next.
  redis.call('ZADD', DUE, 'XX', 'GT', now + 1, 'notices:' .. host)
  return 0
end

-- The host answered, or did not. `dice`: uniform in [0, 1).
local function note_host(host, is_down, answer, now, dice)
  if not is_down then return redis.call('DEL', host_key(host)) end
  if tonumber(redis.call('HGET', host_key(host), 'rest_until') or '0') > now then return end
  local failures = redis.call('HINCRBY', host_key(host), 'failures', 1)
  redis.call('HSETNX', host_key(host), 'failing_since', now)
  redis.call('HSET', host_key(host), 'answer', answer)
  redis.call('EXPIRE', host_key(host), 2 * DAY)
  if failures < FAILURES_TO_REST then return end
  local seconds = math.min(HOST_REST * 2 ^ (failures - FAILURES_TO_REST), HOST_REST_CAP) * (1 + dice) / 2
  redis.call('HSET', host_key(host), 'rest_until', now + seconds)
end
