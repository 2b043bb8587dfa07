-- Answers.

set role stalela_owner;

create function public.reply(caller public.caller, status integer, body json)
returns public.answer
language plpgsql
immutable
set search_path = ''
as $$
begin
    return row(status, body::text, caller.rate)::public.answer;
end
$$;
comment on function public.reply is 'A JSON answer with the caller''s RateLimit-* headers.';

reset role;
