-- What is said of a batch. ARGV: batch, now, then names and values; a value of '' is no more said
local batch = ARGV[1]
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', batch_key(batch), ARGV[i])
  else
    redis.call('HSET', batch_key(batch), ARGV[i], ARGV[i + 1])
  end
end
keep_if_empty(batch, tonumber(ARGV[2]))
return 1
