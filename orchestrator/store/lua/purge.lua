-- Gives dead letters up: their records go as those of other ended jobs do. ARGV: jobs
-- Gives how many there were.
local purged = 0
for i = 1, #ARGV do
  if redis.call('ZREM', DEAD, ARGV[i]) == 1 then
    purged = purged + 1
    keep_job(ARGV[i], job_field(ARGV[i], 'attempts'), KEEP)
  end
end
return purged
