-- Records what the provider calls an open attempt. ARGV: attempt, upstream id, now, due_at, timing, expects
-- Gives the attempt's verdict where it is closed already (a callback overtook the reply, or a cancel), else ''.
local attempt = ARGV[1]
local held = redis.call('HMGET', attempt_key(attempt), 'state', 'job', 'verdict', 'deadline')
if not held[1] then return '' end
redis.call('HSETNX', attempt_key(attempt), 'upstream_id', ARGV[2])
redis.call('SREM', UNCERTAIN, attempt)
if held[1] == 'closed' and redis.call('HGET', attempt_key(attempt), 'fate') == 'refunded' then
  spend(attempt, 'at_risk')  -- it was taken after all
end
if held[1] ~= 'open' then return held[3] or '' end
redis.call('HSET', attempt_key(attempt), 'state', 'submitted', 'submitted', ARGV[3], 'timing', ARGV[5],
  'expects', ARGV[6])
redis.call('ZADD', DUE, math.min(tonumber(ARGV[4]), tonumber(held[4])), 'job:' .. held[2])
return ''
