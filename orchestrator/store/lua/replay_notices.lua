-- Lets dead notices be sent again, under their ids, and their hosts be tried at once. ARGV: now, notices
-- Gives how many there were.
local now, replayed = tonumber(ARGV[1]), 0
for i = 2, #ARGV do
  local id = ARGV[i]
  if redis.call('ZREM', DEAD_NOTICES, id) == 1 and redis.call('EXISTS', notice_key(id)) == 1 then
    replayed = replayed + 1
    redis.call('PERSIST', notice_key(id))
    redis.call('HSET', notice_key(id), 'state', 'waiting')
    redis.call('HDEL', notice_key(id), 'tries', 'first_tried', 'ended')
    local host = redis.call('HGET', notice_key(id), 'host')
    redis.call('DEL', host_key(host))
    line_up(id, host, now)
  end
end
return replayed
