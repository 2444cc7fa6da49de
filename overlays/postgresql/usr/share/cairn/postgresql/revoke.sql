\set ON_ERROR_STOP on
drop role if exists "{{ account.name }}_a";
drop role if exists "{{ account.name }}_b";
