-- Takes the next notice of a host. ARGV: host, now. Gives {id, fields}, or nothing where none is to be sent now.
return take_notice(ARGV[1], tonumber(ARGV[2]))
