"""Each module composes components into one CloudFormation stack."""
