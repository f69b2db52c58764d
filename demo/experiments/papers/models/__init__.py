"""What other papers do with models in part: some blocks first, coarse numbers first, few layers first."""
