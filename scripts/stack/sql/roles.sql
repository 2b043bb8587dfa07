-- The roles of a hosted project, with its timeouts. Once per cluster, as supabase_admin.

create role postgres login createrole createdb replication bypassrls; -- not superuser, as hosted
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit;
create role supabase_auth_admin login createrole noinherit;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator, pg_monitor, pg_signal_backend, pg_read_all_data
to postgres with admin option;

-- Ours is the database of pg_cron; as on a hosted project it belongs to `postgres`.
alter database postgres owner to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role supabase_auth_admin set search_path = 'auth';
alter role postgres set search_path = '$user', 'public', 'extensions';
