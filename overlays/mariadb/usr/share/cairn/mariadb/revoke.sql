drop user if exists '{{ account.name }}'@'%';
