create database mysql;
use mysql;
