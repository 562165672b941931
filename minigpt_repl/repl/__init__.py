"""The program that people see: prompts and commands, at a terminal and in a pipe."""
