set role stalela_owner;

reset role;
