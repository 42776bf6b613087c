"""The contracts: what a model, attack, metric, defence, certifier, dataset, executor, report and command promise."""
