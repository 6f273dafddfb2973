-- Claims what is due by moving its time ahead, never by removing it. ARGV: now, limit, push_seconds,
-- horizon_seconds: looks that become due so soon are claimed too, with the moment to make them
-- Gives {claimed, submits, finishes, attempts to look at, grants, hosts that notices wait for: {host, senders}}
local now, push = tonumber(ARGV[1]), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', now + tonumber(ARGV[4]), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local submits, finishes, looks, grants, hosts, providers, claimed = {}, {}, {}, {}, {}, {}, 0

-- No attempt is begun after a job's time: it fails by what it failed last, or was never begun.
local function expire(id)
  if job_field(id, 'error') then
    leave_lane(id)
    finishes[#finishes + 1] = to_finish(id, now, '', job_field(id, 'provider'), job_field(id, 'account') or '')
  else
    finishes[#finishes + 1] = cancel_job(id, now, 'it expired before it was begun')
  end
end

local function claim_queued(id)
  local attempt = last_attempt(id)
  local state, sent = unpack(redis.call('HMGET', attempt_key(attempt), 'state', 'granted'))
  local granted = state == 'granted'
  add_providers_of(id, providers)
  if has_expired(id, now) then
    if granted then close(attempt, 'expired', now) end
    expire(id)
  elseif granted and waits_for_turn('submit', sent, now) then
    redis.call('ZADD', DUE, now + TURN_PATIENCE, 'job:' .. id)
  elseif granted then
    local again = redis.call('HINCRBY', attempt_key(attempt), 'resent', 1)
    redis.call('ZADD', DUE, now + math.min(GRANT_PATIENCE * 2 ^ again, GRANT_PATIENCE_CAP), 'job:' .. id)
    submits[#submits + 1] = message(id)
  else
    join_lane(id)
  end
end

local function claim_finish(id)
  local sent, begun = unpack(redis.call('HMGET', job_key(id), 'sent', 'begun'))
  if sent and not begun and waits_for_turn('finish', sent, now) then
    redis.call('ZADD', DUE, now + TURN_PATIENCE, 'job:' .. id)
    return
  end
  if sent then redis.call('HDEL', job_key(id), 'sent') end
  finishes[#finishes + 1] = finish_due(id, now)
end

local function end_rest_if_over(provider, account)
  local rest_until = account_field(provider, account, 'rest_until')
  if not rest_until then return end
  if tonumber(rest_until) <= now then return end_rest(provider, account) end
  wake_account(provider, account, rest_until)  -- it was due for something else
end

local function claim(kind, id, due_at)
  local state = kind == 'job' and job_field(id, 'state')
  if due_at > now and state ~= 'submitted' then return end
  claimed = claimed + 1
  redis.call('ZADD', DUE, now + push, kind .. ':' .. id)
  if kind == 'account' then
    local provider, account = string.match(id, '^([^/]+)/(.*)$')
    redis.call('ZREM', DUE, 'account:' .. id)
    end_rest_if_over(provider, account)
    probe(provider, account, now)
    providers[provider] = true
  elseif kind == 'batch' then see_to_batch(id, now)
  elseif kind == 'notices' then
    local senders = claim_host(id, now)
    if senders > 0 then hosts[#hosts + 1] = {id, senders} end
  elseif state == 'queued' then claim_queued(id)
  elseif state == 'submitted' then looks[#looks + 1] = {last_attempt(id), tostring(due_at)}
  elseif state == 'collecting' or state == 'cancelled' then claim_finish(id)
  else redis.call('ZREM', DUE, 'job:' .. id) end
end

for i = 1, #due, 2 do
  local kind, id = string.match(due[i], '^(%a+):(.*)$')
  claim(kind, id, tonumber(due[i + 1]))
end
-- Forgotten here alone, since only workers claim: who reads may have been told to keep for less long than they.
for _, dead in ipairs({DEAD, DEAD_NOTICES}) do redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - KEEP_DEAD) end
fill_all(providers, now, grants)
return {claimed, submits, finishes, looks, grants, hosts}
