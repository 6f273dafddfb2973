-- Says when a live attempt is looked at next. ARGV: attempt, now, due_at, counter to raise ('' for none)
local held = redis.call('HMGET', attempt_key(ARGV[1]), 'state', 'job', 'provider', 'deadline')
if held[1] ~= 'open' and held[1] ~= 'submitted' then return 0 end
if ARGV[4] ~= '' then
  redis.call('HINCRBY', attempt_key(ARGV[1]), ARGV[4], 1)
  redis.call('HSET', attempt_key(ARGV[1]), 'looked', ARGV[2])
  count(held[3], ARGV[4])
end
local due_at, deadline = tonumber(ARGV[3]), tonumber(held[4])
if deadline > tonumber(ARGV[2]) then due_at = math.min(due_at, deadline) end
redis.call('ZADD', DUE, due_at, 'job:' .. held[2])
return 1
