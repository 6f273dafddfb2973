-- What became of a notice that was taken, once; the next one of its host.
-- ARGV: notice, tries (its number when it was taken), now, verdict ('delivered' | 'again' | 'dead'), answer, again_at,
--       host_down ('1' | ''), dice, shown (its target, fit to be seen), more ('1': give the next one)
-- Gives {id, fields} of the next one, or nothing.
local id, now, verdict = ARGV[1], tonumber(ARGV[3]), ARGV[4]
local held = redis.call('HMGET', notice_key(id), 'state', 'host', 'tries')
local host = held[2]
if held[1] == 'waiting' and (verdict == 'delivered' or held[3] == ARGV[2]) then
  redis.call('ZREM', telling_key(host), id)
  redis.call('HSET', notice_key(id), 'answer', ARGV[5])
  note_host(host, ARGV[7] == '1', ARGV[5], now, tonumber(ARGV[8]))
  if verdict == 'delivered' then
    leave_host(id, host)
    redis.call('HSET', notice_key(id), 'state', 'delivered', 'ended', now, 'shown', ARGV[9])
    redis.call('HDEL', notice_key(id), 'target', 'result', 'error', 'reason', 'provider', 'account', 'attempts', 'created',
      'custom_id', 'first_tried')
    redis.call('EXPIRE', notice_key(id), KEEP)
  elseif verdict == 'again' then
    redis.call('ZADD', waiting_key(host), ARGV[6], id)
  else
    give_notice_up(id, host, now)
  end
end
if not host then return false end
wake_host(host)
return ARGV[10] == '1' and take_notice(host, now)
