-- Claims what is due by moving its time ahead, never by removing it. ARGV: now, limit, push_seconds
-- Gives {claimed, submits, finishes, attempts to look at, grants}
local now, push = tonumber(ARGV[1]), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, ARGV[2])
local submits, finishes, looks, grants, providers = {}, {}, {}, {}, {}

local function claim_queued(id)
  local attempt = last_attempt(id)
  if redis.call('HGET', attempt_key(attempt), 'state') == 'granted' then
    local again = redis.call('HINCRBY', attempt_key(attempt), 'resent', 1)
    redis.call('ZADD', DUE, now + math.min(GRANT_PATIENCE * 2 ^ again, GRANT_PATIENCE_CAP), 'job:' .. id)
    submits[#submits + 1] = message(id)
  else
    join_lane(id)
    providers[job_field(id, 'provider')] = true
  end
end

for _, member in ipairs(due) do
  redis.call('ZADD', DUE, now + push, member)
  local kind, id = string.match(member, '^(%a+):(.*)$')
  if kind == 'account' then
    local provider, account = string.match(id, '^([^/]+)/(.*)$')
    redis.call('ZREM', DUE, member)
    end_rest_if_over(provider, account, now)
    providers[provider] = true
  else
    local state = job_field(id, 'state')
    if state == 'queued' then claim_queued(id)
    elseif state == 'submitted' then looks[#looks + 1] = last_attempt(id)
    elseif state == 'collecting' or state == 'cancelled' then finishes[#finishes + 1] = finish_due(id, now)
    else redis.call('ZREM', DUE, member) end
  end
end
for provider in pairs(providers) do fill(provider, now, grants) end
return {#due, submits, finishes, looks, grants}
