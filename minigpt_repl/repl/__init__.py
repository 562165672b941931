"""The program that people see: prompts, commands, a terminal and a plain loop."""
