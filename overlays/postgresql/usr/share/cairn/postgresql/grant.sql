\set ON_ERROR_STOP on
select 'create role "{{ account.name }}" nologin' where not exists (select from pg_roles where rolname = '{{ account.name }}') \gexec
select 'create database "{{ account.name }}" owner "{{ account.name }}"'
  where not exists (select from pg_database where datname = '{{ account.name }}') \gexec
revoke all on database "{{ account.name }}" from public;
{% set logins = [{"turn": account.turn, "password": account.password}] + ([account.old] if account.old else []) -%}
{% for login in logins -%}
{% set role = account.name ~ "_" ~ login.turn -%}
select 'create role "{{ role }}" nologin' where not exists (select from pg_roles where rolname = '{{ role }}') \gexec
grant "{{ account.name }}" to "{{ role }}";
alter role "{{ role }}" with login password '{{ login.password }}';
alter role "{{ role }}" set role = '{{ account.name }}';
{% endfor -%}
{% if not account.old -%}
drop role if exists "{{ account.name }}_{{ "b" if account.turn == "a" else "a" }}";
{% endif -%}
