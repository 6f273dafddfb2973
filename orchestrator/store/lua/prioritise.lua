-- Gives jobs that are not over another priority. They keep their order of age. ARGV: priority, jobs
-- Gives how many there were.
local priority, found = tonumber(ARGV[1]), 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local job = redis.call('HMGET', job_key(id), 'state', 'place')
  if job[1] == 'queued' or job[1] == 'submitted' then
    found = found + 1
    local age = tonumber(job[2]) % PLACES_PER_PRIORITY
    local place = string.format('%.0f', (9 - priority) * PLACES_PER_PRIORITY + age)
    redis.call('HSET', job_key(id), 'place', place, 'priority', priority)
    redis.call('ZADD', lane_key(lane_of(id)), 'XX', place, id)
  end
end
return found
