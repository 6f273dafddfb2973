-- Says when a live attempt is looked at next. ARGV: attempt, due_at, counter to raise ('' for none)
local held = redis.call('HMGET', attempt_key(ARGV[1]), 'state', 'job', 'provider')
if held[1] ~= 'open' and held[1] ~= 'submitted' then return 0 end
if ARGV[3] ~= '' then
  redis.call('HINCRBY', attempt_key(ARGV[1]), ARGV[3], 1)
  count(held[3], ARGV[3])
end
redis.call('ZADD', DUE, ARGV[2], 'job:' .. held[2])
return 1
