drop user if exists '{{ account.name }}'@'%';
drop database if exists `{{ account.name }}`;
