\set ON_ERROR_STOP on
drop database if exists "{{ account.name }}" with (force);
drop role if exists "{{ account.name }}_a";
drop role if exists "{{ account.name }}_b";
drop role if exists "{{ account.name }}";
