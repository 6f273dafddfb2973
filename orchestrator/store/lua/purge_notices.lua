-- Forgets dead notices: one that was replayed meanwhile is left alone. ARGV: notices
-- Gives how many there were.
local purged = 0
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', DEAD_NOTICES, id) == 1 then
    purged = purged + 1
    redis.call('DEL', notice_key(id))
  end
end
return purged
