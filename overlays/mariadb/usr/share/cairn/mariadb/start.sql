-- The account root is tied to the unit's own account over the Unix socket: it has no password and no host.
set @auth_root_socket = 'mysql';
set @skip_auth_anonymous = 1;
create database mysql;
use mysql;
