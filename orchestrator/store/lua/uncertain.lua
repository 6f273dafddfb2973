-- The submit of an attempt was not answered as it should be: it may have arrived. ARGV: attempt, now, due_at
local held = redis.call('HMGET', attempt_key(ARGV[1]), 'state', 'job', 'provider', 'deadline', 'upstream_id')
if held[1] ~= 'open' then return 0 end
if not held[5] then
  redis.call('SADD', UNCERTAIN, ARGV[1])
  redis.call('HSET', attempt_key(ARGV[1]), 'uncertain_since', ARGV[2])
  count(held[3], 'uncertain')
end
redis.call('ZADD', DUE, math.min(tonumber(ARGV[3]), tonumber(held[4])), 'job:' .. held[2])
return 1
