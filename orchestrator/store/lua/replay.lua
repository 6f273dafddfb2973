-- Lets failed jobs run again, each once, where they are still dead letters.
-- ARGV: now, even_if_moderated ('1' | ''), jobs
-- One whose pictures were made is collected again; nothing is generated for it.
-- Gives {how many, grants, messages to finish}
local now, grants, finishes, providers, replayed = tonumber(ARGV[1]), {}, {}, {}, 0
for i = 3, #ARGV do
  local id = ARGV[i]
  if redis.call('ZSCORE', DEAD, id) and job_field(id, 'state') == 'failed' then
    replayed = replayed + 1
    local urls = job_field(id, 'urls') or ''
    begin_again(id)
    redis.call('HDEL', job_key(id), 'reason', 'error', 'failures', 'expires', 'urls', 'collect_failures',
      'collect_error')
    if ARGV[2] == '1' then redis.call('HSET', job_key(id), 'even_if_moderated', 1) end
    if urls ~= '' then
      finishes[#finishes + 1] = to_finish(id, now, urls, job_field(id, 'provider'), job_field(id, 'account'))
    else
      set_state(id, 'queued')
      join_lane(id)
      add_providers_of(id, providers)
    end
  end
end
fill_all(providers, now, grants)
return {replayed, grants, finishes}
