-- Gives dead letters up: their records go as those of other ended jobs do. ARGV: keep_seconds, jobs
-- Gives how many there were.
local purged = 0
for i = 2, #ARGV do
  if redis.call('ZREM', DEAD, ARGV[i]) == 1 then
    purged = purged + 1
    keep_job(ARGV[i], ARGV[1])
  end
end
return purged
