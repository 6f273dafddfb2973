-- Gives a batch, or a tenant (`<tenant>/`), so many times the share of one of weight 1. ARGV: owner, weight, now
if tonumber(ARGV[2]) == 1 then
  redis.call('HDEL', WEIGHTS, ARGV[1])
else
  redis.call('HSET', WEIGHTS, ARGV[1], ARGV[2])
end
if ARGV[1] ~= '' and not string.find(ARGV[1], '/$') then keep_if_empty(ARGV[1], tonumber(ARGV[3])) end
return 1
