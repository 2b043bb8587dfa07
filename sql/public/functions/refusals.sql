-- Refusing a request.

set role stalela_owner;

create function public.refuse(code text, message text, extras jsonb default '{}')
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    -- PTnnn: the Data API answers nnn. Its client shows detail and hint, never the HTTP status.
    -- The message becomes a line of HTTP, so what a caller wrote into it may not end that line.
    raise exception using
        errcode = 'PT' || left(code, 3), message = regexp_replace(message, '[[:cntrl:]]+', ' ', 'g'),
        detail = code, hint = extras::text;
end
$$;
comment on function public.refuse is
'Ends the transaction with a code of public.error_codes. extras: errors [{pointer, detail}], retry_after (seconds), current_state, allowed.';

create function public.refuse_field(code text, pointer text, message text)
returns void
language sql
volatile
set search_path = ''
as $$
    select public.refuse(
        refuse_field.code,
        -- A merchant counts the lines of an invoice from one, and the pointer from zero.
        coalesce(
            (
                select format('line %s: %s %s', f.place[1]::bigint + 1, f.place[2], refuse_field.message)
                from regexp_match(refuse_field.pointer, '^/items/(\d+)/(.+)$') as f (place)
                where f.place is not null
            ),
            ltrim(refuse_field.pointer, '/') || ': ' || refuse_field.message
        ),
        jsonb_build_object('errors', jsonb_build_array(
            jsonb_build_object('pointer', refuse_field.pointer, 'detail', refuse_field.message)
        ))
    );
$$;
comment on function public.refuse_field is 'Refuses because of one field, named by its JSON pointer; message says what is wrong with it and what to do, and does not repeat its name. The sentence is shared/fiscal/document.py''s: a test keeps them equal.';

create function public.refuse_cursor()
returns void
language sql
volatile
set search_path = ''
as $$
    select public.refuse_field('42262', '/cursor', 'pass pagination.next_cursor of the page before, unchanged');
$$;
comment on function public.refuse_cursor is 'Refuses a cursor that no list of ours gave, in the words of shared/http/validation.py.';

reset role;
