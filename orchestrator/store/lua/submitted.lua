-- Records what the provider calls an open attempt. ARGV: attempt, upstream id, now, due_at, timing, expects
-- Gives the attempt's verdict where it is closed already (a callback overtook the reply, or a cancel), else ''.
local attempt = ARGV[1]
local state, id, verdict, deadline, upstream_id, doubted, fate = unpack(redis.call('HMGET', attempt_key(attempt),
  'state', 'job', 'verdict', 'deadline', 'upstream_id', 'uncertain_since', 'fate'))
if not state then return '' end
if doubted then redis.call('SREM', UNCERTAIN, attempt) end
if state ~= 'open' then
  if not upstream_id then redis.call('HSET', attempt_key(attempt), 'upstream_id', ARGV[2]) end
  if state == 'closed' and fate == 'refunded' then spend(attempt, 'at_risk') end  -- it was taken after all
  return verdict or ''
end
redis.call('HSET', attempt_key(attempt), 'upstream_id', upstream_id or ARGV[2], 'state', 'submitted',
  'submitted', ARGV[3], 'timing', ARGV[5], 'expects', ARGV[6])
redis.call('ZADD', DUE, math.min(tonumber(ARGV[4]), tonumber(deadline)), 'job:' .. id)
return ''
