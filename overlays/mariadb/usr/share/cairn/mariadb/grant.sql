create database if not exists `{{ account.name }}`;
create user if not exists '{{ account.name }}'@'%' account lock;
alter user '{{ account.name }}'@'%' identified via
  mysql_native_password using password('{{ account.password }}'){% if account.old %} or
  mysql_native_password using password('{{ account.old.password }}'){% endif %} account unlock;
-- In a grant's database name _ stands for any character.
grant all privileges on `{{ account.name | replace("_", "\\_") }}`.* to '{{ account.name }}'@'%';
