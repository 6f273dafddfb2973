-- Lets the finishing of a job go before its lease ends: its worker leaves. ARGV: job, token
if job_field(ARGV[1], 'finishing') ~= ARGV[2] then return 0 end
return redis.call('HDEL', job_key(ARGV[1]), 'finishing')
